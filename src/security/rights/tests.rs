//! Cases that the documentation of the module promises.

use super::*;
use crate::security::Granted;
use std::sync::Arc;

const FILE: &str = "rights.toml";

fn rights(text: &str) -> Rights {
    Rights::parse(text, FILE).unwrap()
}

/// One rule that allows everything to those and there where `rest` says.
fn allow_all(rest: &str) -> Rights {
    rights(&format!("[[rules]]\neffect = 'allow'\nactions = ['all']\n{rest}\n"))
}

fn topic(text: &str) -> TopicName<'_> {
    TopicName::parse(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn may_publish(rights: &Rights, user: Option<&str>, client_id: &str, name: &str) -> bool {
    let identity = Identity { username: user.map(Into::into), ..Identity::default() };
    rights.may(Who { identity: &identity, client_id }, Action::Publish, topic(name))
}

fn error(text: &str) -> String {
    Rights::parse(text, FILE).unwrap_err().to_string()
}

// Whether anything is allowed at all.

#[test]
fn mqtt_4_7_2_1_without_a_file_all_is_allowed_but_writing_below_dollar() {
    let rights = Rights::default();
    let identity = Identity::default();
    let who = Who { identity: &identity, client_id: "c" };
    assert!(rights.is_open_for(&identity));
    for action in Action::ALL {
        assert!(rights.may(who, action, topic("a/b")), "{action:?}");
        let reads = Actions::READ.contains(action);
        assert_eq!(rights.may(who, action, topic("$SYS/x")), reads, "{action:?}");
    }
    assert!(!rights.may_leave_will(who, topic("$SYS/x")));
    assert!(rights.may_subscribe(who, &filter("$SYS/#")) && rights.may_receive_all(who, &filter("#")));
}

#[test]
fn a_file_without_rules_allows_nothing() {
    let identity = Identity::of_user("alice");
    let who = Who { identity: &identity, client_id: "c" };
    for text in ["", "# nothing yet\n"] {
        let rights = rights(text);
        assert!(!rights.is_open_for(&identity));
        assert!(Action::ALL.iter().all(|action| !rights.may(who, *action, topic("a"))));
        assert!(!rights.may_subscribe(who, &filter("a")) && !rights.may_receive_all(who, &filter("a")));
    }
}

#[test]
fn mqtt_4_7_2_1_topics_of_the_server_take_a_pattern_that_begins_with_dollar() {
    let rights = allow_all("topics = ['#', '+/x', '$lamp/#', '%u/#']");
    assert!(may_publish(&rights, None, "c", "a/x") && may_publish(&rights, None, "c", "$lamp/x"));
    assert!(!may_publish(&rights, None, "c", "$SYS/x"));
    assert!(!may_publish(&rights, Some("$SYS"), "c", "$SYS/x"), "nobody names himself into the server's topics");
}

// Whom a rule is about.

#[test]
fn a_rule_is_about_whoever_fits_users_clients_and_fields() {
    let rights = allow_all("users = ['alice', 'sensor-*']\nclients = ['cam-*', 'phone']\ntopics = ['t']");
    for (user, client, expected) in [
        (Some("alice"), "phone", true),
        (Some("sensor-1"), "cam-7", true),
        (Some("alice"), "tablet", false),
        (Some("bob"), "phone", false),
        (None, "phone", false),
    ] {
        assert_eq!(may_publish(&rights, user, client, "t"), expected, "{user:?} {client}");
    }
}

#[test]
fn anonymous_clients_are_meant_by_the_empty_name_and_by_rules_without_users() {
    for (users, anonymous, alice) in [
        ("users = ['']", true, false),
        ("users = ['*']", false, true),
        ("", true, true),
        ("users = ['', 'al*']", true, true),
    ] {
        let rights = allow_all(&format!("{users}\ntopics = ['t']"));
        assert_eq!(may_publish(&rights, None, "c", "t"), anonymous, "{users}");
        assert_eq!(may_publish(&rights, Some("alice"), "c", "t"), alice, "{users}");
    }
}

fn with_fields(fields: &[(&str, &str)]) -> Identity {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Identity { fields: fields.into(), ..Identity::default() }
}

#[test]
fn fields_must_all_be_there_and_one_of_several_values_is_enough() {
    let rights = allow_all("fields = { 'cert.dns' = 'door*', 'claim.site' = 'north' }\ntopics = ['t']");
    for (fields, expected) in [
        (&[("cert.dns", "doors"), ("claim.site", "north")][..], true),
        (&[("cert.dns", "cars"), ("cert.dns", "doors"), ("claim.site", "north")], true),
        (&[("cert.dns", "doors")], false),
        (&[("cert.dns", "doors"), ("claim.site", "south")], false),
        (&[], false),
    ] {
        let identity = with_fields(fields);
        let who = Who { identity: &identity, client_id: "c" };
        assert_eq!(rights.may(who, Action::Publish, topic("t")), expected, "{fields:?}");
    }
}

// What it is about.

#[test]
fn shorthands_stand_for_several_actions() {
    for (word, actions) in [
        ("publish", &[Action::Publish][..]),
        ("subscribe", &[Action::Subscribe]),
        ("receive", &[Action::Receive]),
        ("will", &[Action::Will]),
        ("write", &[Action::Publish, Action::Will]),
        ("read", &[Action::Subscribe, Action::Receive]),
        ("all", &Action::ALL),
    ] {
        let rights = rights(&format!("[[rules]]\neffect = 'allow'\nactions = ['{word}']\ntopics = ['t']"));
        let identity = Identity::default();
        let who = Who { identity: &identity, client_id: "c" };
        for action in Action::ALL {
            assert_eq!(rights.may(who, action, topic("t")), actions.contains(&action), "{word} {action:?}");
        }
        assert_eq!(rights.may_subscribe(who, &filter("t")), actions.contains(&Action::Subscribe));
        assert_eq!(rights.may_receive_all(who, &filter("t")), actions.contains(&Action::Receive));
        assert_eq!(
            rights.may_leave_will(who, topic("t")),
            actions.contains(&Action::Will) && actions.contains(&Action::Publish)
        );
    }
}

#[test]
fn a_deny_wins_wherever_it_stands() {
    let deny = "[[rules]]\neffect = 'deny'\nusers = ['al*']\nactions = ['write']\ntopics = ['a/secret/#']\n";
    let allow = "[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['a/#', 'a/secret/x']\n";
    for text in [format!("{deny}{allow}"), format!("{allow}{deny}")] {
        let rights = rights(&text);
        assert!(!may_publish(&rights, Some("alice"), "c", "a/secret/x"));
        assert!(may_publish(&rights, Some("alice"), "c", "a/x"));
        assert!(may_publish(&rights, Some("bob"), "c", "a/secret/x"));
        assert!(!may_publish(&rights, Some("bob"), "c", "b"));
    }
}

#[test]
fn a_filter_that_reaches_beyond_a_deny_may_be_subscribed_to_but_is_looked_at_message_by_message() {
    let deny = "[[rules]]\neffect = 'deny'\nactions = ['all']\ntopics = ['a/secret/#']\n";
    let rights = rights(&format!("[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['a/#']\n{deny}"));
    let identity = Identity::default();
    let who = Who { identity: &identity, client_id: "c" };
    for (text, may_subscribe, may_receive_all) in [
        ("a/#", true, false),
        ("a/+", true, false),
        ("a/x/#", true, true),
        ("a/secret/+", false, false),
        ("a/secret", false, false),
        ("#", false, false),
        ("b", false, false),
    ] {
        assert_eq!(rights.may_subscribe(who, &filter(text)), may_subscribe, "{text}");
        assert_eq!(rights.may_receive_all(who, &filter(text)), may_receive_all, "{text}");
    }
}

// Placeholders.

#[test]
fn placeholders_stand_for_who_the_client_is() {
    let rights = allow_all("topics = ['c/%c/#', 'u/%u', 'f/%{cert.cn}/+', 'p/100%%', 'm/%u-%c.x']");
    let identity = Identity { username: Some("alice".into()), ..with_fields(&[("cert.cn", "door")]) };
    let who = Who { identity: &identity, client_id: "phone" };
    for (name, expected) in [
        ("c/phone/x/y", true),
        ("c/phone", true),
        ("c/alice/x", false),
        ("c/%c/x", false),
        ("u/alice", true),
        ("u/alice/x", false),
        ("f/door/x", true),
        ("f/wall/x", false),
        ("p/100%", true),
        ("m/alice-phone.x", true),
        ("m/alice-phone", false),
    ] {
        assert_eq!(rights.may(who, Action::Publish, topic(name)), expected, "{name}");
    }
}

#[test]
fn a_value_that_cannot_stand_in_a_level_makes_an_allow_about_nothing() {
    let rights = allow_all("topics = ['home/%u/#', 'x-%{cert.cn}', '%c']");
    for user in [None, Some(""), Some("a/b"), Some("+"), Some("#"), Some("a+"), Some("a\0b")] {
        for name in ["home/a/b/x", "home/x", "home//x", "home/+/x", "home/a"] {
            if let Ok(name) = TopicName::parse(name) {
                assert!(!may_publish(&rights, user, "", name.as_str()), "{user:?} {name:?}");
            }
        }
    }
    let identity = with_fields(&[("cert.cn", "one"), ("cert.cn", "two")]);
    let who = Who { identity: &identity, client_id: "#" };
    for name in ["x-one", "x-two", "x-", "anything"] {
        assert!(!rights.may(who, Action::Publish, topic(name)), "{name}");
    }
}

#[test]
fn a_value_that_cannot_stand_in_a_level_makes_a_deny_about_everything_from_there_on() {
    let deny = "[[rules]]\neffect = 'deny'\nactions = ['all']\ntopics = ['home/%u/private']\n";
    let rights = rights(&format!("[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['#']\n{deny}"));
    assert!(!may_publish(&rights, Some("alice"), "c", "home/alice/private"));
    assert!(may_publish(&rights, Some("alice"), "c", "home/alice/x"));
    for user in [None, Some("a/b"), Some("+")] {
        for name in ["home/a/b/private", "home/alice/x", "home"] {
            assert!(!may_publish(&rights, user, "c", name), "{user:?} {name}");
        }
        assert!(may_publish(&rights, user, "c", "street"), "{user:?}");
    }
}

// Tokens.

#[test]
fn a_token_takes_away_from_what_rules_allow_and_adds_nothing() {
    let granted = Granted {
        publish: vec![filter("a/#")],
        subscribe: vec![filter("a/+")],
        receive: vec![filter("a/b")],
        will: vec![],
    };
    let identity = Identity { granted: Some(Arc::new(granted)), ..Identity::of_user("alice") };
    let who = Who { identity: &identity, client_id: "c" };
    for rights in [Rights::default(), allow_all("topics = ['#', '$SYS/#']")] {
        assert!(!rights.is_open_for(&identity));
        assert!(rights.may(who, Action::Publish, topic("a/x")) && !rights.may(who, Action::Publish, topic("b")));
        assert!(rights.may_subscribe(who, &filter("a/+")) && !rights.may_subscribe(who, &filter("a/#")));
        assert!(rights.may(who, Action::Receive, topic("a/b")) && !rights.may(who, Action::Receive, topic("a/c")));
        assert!(rights.may_receive_all(who, &filter("a/b")) && !rights.may_receive_all(who, &filter("a/+")));
        assert!(!rights.may_leave_will(who, topic("a/x")), "no will was granted");
        assert!(!rights.may(who, Action::Publish, topic("$SYS/x")));
    }
    let closed = rights("");
    assert!(!closed.may(who, Action::Publish, topic("a/x")));
    let explanation = allow_all("topics = ['#']").explain(who, Action::Publish, topic("b")).to_string();
    assert!(explanation.starts_with("denied: the rules allow it"), "{explanation}");
}

// Errors.

#[test]
fn errors_name_file_line_and_what_was_meant() {
    let rule = |line: &str| format!("[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['t']\n{line}\n");
    for (text, message) in [
        ("rule = 1".to_owned(), "rights.toml:1: there is no key rule; did you mean rules?"),
        ("[rules]".to_owned(), "rights.toml:1: rules are written as [[rules]]"),
        ("a =\n".to_owned(), "rights.toml:1: "),
        (rule("user = ['a']"), "rights.toml:5: there is no key user; did you mean users?"),
        (rule("users = []"), "rights.toml:5: this is a list of strings, each a name"),
        (rule("users = 'alice'"), "rights.toml:5: this is a list of strings, each a name"),
        (rule("clients = [1]"), "rights.toml:5: a name is a string"),
        (rule("fields = { 'cretificate.cn' = 'x' }"), "rights.toml:5: there is no field \"cretificate.cn\""),
        (rule("fields = { 'cert.cm' = 'x' }"), "rights.toml:5: there is no field \"cert.cm\"; did you mean cert.cn?"),
        (rule("fields = { 'claim.' = 'x' }"), "rights.toml:5: there is no field \"claim.\""),
        (rule("fields = { 'cert.cn' = '' }"), "rights.toml:5: the value of a field is a string, and not empty"),
        (rule("fields = {}"), "rights.toml:5: fields are written as"),
        ("[[rules]]\nactions = ['all']\ntopics = ['t']".to_owned(), "rights.toml:1: the rule has no effect"),
        ("\n[[rules]]\neffect = 'deny'\ntopics = ['t']".to_owned(), "rights.toml:2: the rule has no actions"),
        ("[[rules]]\neffect = 'deny'\nactions = ['all']".to_owned(), "rights.toml:1: the rule has no topics"),
        ("[[rules]]\neffect = 'permit'".to_owned(), "rights.toml:2: an effect is \"allow\" or \"deny\""),
        (
            "[[rules]]\nactions = [\n'publish',\n'recieve']".to_owned(),
            "rights.toml:4: there is no action recieve; did you mean receive?",
        ),
        (
            "[[rules]]\ntopics = [\n'a',\n'a/#/b']".to_owned(),
            "rights.toml:4: the topic pattern \"a/#/b\" is wrong: # must be the last level, and alone in it",
        ),
        (
            "[[rules]]\ntopics = ['a/%x']".to_owned(),
            "rights.toml:2: the topic pattern \"a/%x\" is wrong: behind % stands",
        ),
        (
            "[[rules]]\ntopics = ['a/%']".to_owned(),
            "rights.toml:2: the topic pattern \"a/%\" is wrong: behind % stands",
        ),
        (
            "[[rules]]\ntopics = ['%{cert.cn']".to_owned(),
            "rights.toml:2: the topic pattern \"%{cert.cn\" is wrong: a `%{` is not closed within its level",
        ),
        (
            "[[rules]]\ntopics = ['%{cn}']".to_owned(),
            "rights.toml:2: the topic pattern \"%{cn}\" is wrong: there is no field",
        ),
        ("[[rules]]\ntopics = ['$share/g/a']".to_owned(), "rights.toml:2: \"$share/g/a\" is a Shared Subscription"),
    ] {
        let error = error(&text);
        assert!(error.starts_with(message), "{error}\n  instead of\n{message}");
    }
}

// Explanations.

#[test]
fn an_explanation_names_the_line_of_the_pattern_and_shows_the_rule() {
    let rights = rights(
        "# Doors\n[[rules]]\neffect = 'allow'\nactions = ['write']\ntopics = [\n  'x',\n  'door/%c/#',\n]\n\n# Others\n[[rules]]\n\
         effect = 'deny'\nactions = ['all']\ntopics = ['y']\n",
    );
    let identity = Identity::default();
    let who = Who { identity: &identity, client_id: "d1" };
    let explanation = rights.explain(who, Action::Publish, topic("door/d1/bell"));
    assert!(explanation.is_allowed);
    assert_eq!(
        explanation.to_string(),
        "allowed by rights.toml:7, topic pattern \"door/%c/#\", which is \"door/d1/#\" here\n\n     2  [[rules]]\n     \
         3  effect = 'allow'\n     4  actions = ['write']\n     5  topics = [\n     6    'x',\n     7    'door/%c/#',\n     8  ]"
    );
    let explanation = rights.explain_subscribe(who, &filter("y"));
    assert!(explanation.to_string().starts_with("denied by rights.toml:14, topic pattern \"y\"\n"), "{explanation}");
    let explanation = rights.explain(who, Action::Publish, topic("z"));
    assert_eq!(explanation.to_string(), "denied by default: no rule in rights.toml allows it");
}

#[test]
fn the_explanation_of_a_will_is_about_the_half_that_is_missing() {
    let identity = Identity::default();
    let who = Who { identity: &identity, client_id: "c" };
    for (actions, action, is_allowed) in
        [("will", Action::Publish, false), ("publish", Action::Will, false), ("write", Action::Will, true)]
    {
        let rights = rights(&format!("[[rules]]\neffect = 'allow'\nactions = ['{actions}']\ntopics = ['t']"));
        let explanation = rights.explain_will(who, topic("t"));
        assert_eq!((explanation.action, explanation.is_allowed), (action, is_allowed), "{actions}");
    }
}

// Mosquitto.

/// What `mosquitto` 2.0.11 answers to a PUBLISH under the same file, where it is not said otherwise.
#[test]
fn an_acl_file_of_mosquitto_means_what_it_means_there() {
    let text = "# comment\n\ntopic read public/#\ntopic deny public/secret/#\nuser alice\ntopic readwrite a/#\n\
                topic deny a/no/#\ntopic with/noaccessword\ntopic write a b/c\nuser bob\ntopic write   b/#\n\
                pattern readwrite dev/%c/#\npattern deny a/pat/#\npattern write pre-%u/%c\npattern write all/#\ntopic read bob/#\n";
    let rights = Rights::parse_mosquitto(text, "acl").unwrap();
    for (user, client, name, expected) in [
        (None, "c1", "public/x", false),
        (None, "c1", "dev/c1/x", true),
        (None, "c+1", "dev/c/1/x", false),
        (Some("alice"), "c1", "a/x", true),
        (Some("alice"), "c1", "a/no/x", false),
        (Some("alice"), "c1", "a/pat/x", true), // A topic line decides before a pattern is asked.
        (Some("alice"), "c1", "with/noaccessword", true),
        (Some("alice"), "c1", "a b/c", true),
        (Some("alice"), "c1", "dev/c1/x", true),
        (Some("alice"), "c1", "pre-alice/c1", true),
        (Some("bob"), "c1", "a/pat/x", false),
        (Some("bob"), "c1", "b/x", true),
        (Some("bob"), "c1", "bob/x", false),
        (Some("bob"), "c+1", "b/x", true),
        (None, "c1", "all/x", true),
        (None, "c+1", "all/x", false),
        (None, "c/1", "dev/c/1/x", false), // There it is allowed: a client could reach into the topics of another one.
    ] {
        assert_eq!(may_publish(&rights, user, client, name), expected, "{user:?} {client} {name}");
    }
}

#[test]
fn an_acl_file_of_mosquitto_grants_every_subscription_and_filters_at_delivery() {
    let text = "topic read public/#\ntopic deny public/secret\nuser alice\ntopic readwrite a/#\n";
    let rights = Rights::parse_mosquitto(text, "acl").unwrap();
    let identity = Identity::default();
    let who = Who { identity: &identity, client_id: "c" };
    for text in ["#", "public/#", "public/secret", "a/#"] {
        assert!(rights.may_subscribe(who, &filter(text)), "{text}");
    }
    let may_receive = |name| rights.may(who, Action::Receive, topic(name));
    assert!(may_receive("public/x") && !may_receive("public/secret") && !may_receive("a/x"));
    assert!(!rights.may_receive_all(who, &filter("public/#")) && rights.may_receive_all(who, &filter("public/x")));
    assert_eq!(
        rights.explain(who, Action::Receive, topic("public/secret")).to_string(),
        "denied by acl:2, topic pattern \"public/secret\"\n\n     2  topic deny public/secret"
    );
    assert!(rights.explain_subscribe(who, &filter("#")).to_string().contains("grants every subscription"));
}

#[test]
fn a_wrong_line_of_an_acl_file_is_named() {
    for (text, message) in [
        ("topic a\nuser", "acl:2: the user has no name"),
        ("topics read a", "acl:1: a line begins with user, topic or pattern, not with \"topics\"; did you mean topic?"),
        ("topic", "acl:1: the topic is missing"),
        ("topic rw a", "acl:1: before the topic stands read, write, readwrite or deny, not \"rw\""),
        ("topic read a/#/b", "acl:1: the topic pattern \"a/#/b\" is wrong: # must be the last level"),
        ("pattern read +a/%c", "acl:1: the topic pattern \"+a/%c\" is wrong: + must be alone"),
    ] {
        let error = Rights::parse_mosquitto(text, "acl").unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}\n  instead of\n{message}");
    }
}

#[test]
fn rules_for_one_user_are_found_among_those_for_many() {
    let text: String = (0..1_000)
        .map(|at| format!("[[rules]]\neffect = 'allow'\nusers = ['u{at}']\nactions = ['all']\ntopics = ['t/{at}']\n"))
        .collect();
    let rights = rights(&text);
    assert!(may_publish(&rights, Some("u7"), "c", "t/7") && !may_publish(&rights, Some("u7"), "c", "t/8"));
    assert!(!may_publish(&rights, Some("u1000"), "c", "t/7") && !may_publish(&rights, None, "c", "t/7"));
}
