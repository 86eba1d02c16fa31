//! Rights and the relations of Topic Filters against what they are defined as, by trying everything.

use proptest::prelude::*;
use std::sync::LazyLock;
use willowmq::security::Identity;
use willowmq::security::rights::{Action, Rights, Who};
use willowmq::topic::{TopicFilter, TopicName};

/// All Topic Names of up to four of these levels. Filters below have up to three levels before `#`, and of these levels all but `z` and
/// `$z`: whatever two of them differ in, some of these topics shows.
static TOPICS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let levels = ["", "a", "b", "$x", "z", "$z"];
    let mut topics: Vec<String> = Vec::new();
    let mut longest = vec![String::new()];
    for depth in 0..4 {
        let longer = |topic: &String| {
            let start = if depth == 0 { String::new() } else { format!("{topic}/") };
            levels.map(|level| format!("{start}{level}"))
        };
        longest = longest.iter().flat_map(longer).collect();
        topics.extend(longest.iter().filter(|topic| !topic.is_empty()).cloned());
    }
    topics
});

fn topics() -> impl Iterator<Item = TopicName<'static>> {
    TOPICS.iter().map(|topic| TopicName::parse(topic).expect("valid"))
}

fn filter_text() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "$x", "+", "+"]);
    (prop::collection::vec(level, 0..4), any::<bool>()).prop_filter_map("a valid filter", |(mut levels, below)| {
        levels.extend(below.then_some("#"));
        let text = levels.join("/");
        TopicFilter::parse(&text).is_ok().then_some(text)
    })
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    filter_text().prop_map(|text| TopicFilter::parse(&text).expect("generated valid"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn covers_is_what_it_is_defined_as(wide in filter(), narrow in filter()) {
        let defined = topics().all(|topic| !narrow.matches(topic) || wide.matches(topic));
        prop_assert_eq!(wide.covers(&narrow), defined, "{:?} {:?}", wide, narrow);
    }

    #[test]
    fn overlaps_is_what_it_is_defined_as(one in filter(), other in filter()) {
        let defined = topics().any(|topic| one.matches(topic) && other.matches(topic));
        prop_assert_eq!(one.overlaps(&other), defined, "{:?} {:?}", one, other);
        prop_assert_eq!(other.overlaps(&one), defined);
    }
}

/// A rule as the model has it.
#[derive(Debug, Clone)]
struct RuleModel {
    is_allow: bool,
    users: Vec<&'static str>,
    clients: Vec<&'static str>,
    actions: Vec<&'static str>,
    topics: Vec<String>,
}

impl RuleModel {
    fn to_toml(&self) -> String {
        let list = |key: &str, items: &[&str]| match items {
            [] => String::new(),
            items => format!("{key} = {items:?}\n"),
        };
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        format!(
            "[[rules]]\neffect = {:?}\n{}{}{}{}",
            if self.is_allow { "allow" } else { "deny" },
            list("users", &self.users),
            list("clients", &self.clients),
            list("actions", &self.actions),
            list("topics", &topics),
        )
    }

    fn is_about(&self, user: Option<&str>, client: &str, action: Action) -> bool {
        let of_user = |pattern: &&str| match *pattern {
            "" => user.is_none_or(str::is_empty),
            "a*" => user.is_some_and(|user| user.starts_with('a')),
            exact => user == Some(exact),
        };
        let actions: Vec<&str> = self
            .actions
            .iter()
            .flat_map(|action| match *action {
                "write" => vec!["publish", "will"],
                "read" => vec!["subscribe", "receive"],
                one => vec![one],
            })
            .collect();
        (self.users.is_empty() || self.users.iter().any(of_user))
            && (self.clients.is_empty() || self.clients.contains(&client))
            && actions.contains(&action.name())
    }

    /// The filters it is about for a client.
    fn filters(&self, user: Option<&str>, client: &str) -> Vec<TopicFilter> {
        let can_stand = |value: &str, at: usize| {
            let names_the_server = self.is_allow && at == 0 && value.starts_with('$');
            !(value.is_empty() || value.contains(['/', '+', '#']) || names_the_server)
        };
        let filled = |pattern: &String| {
            let mut levels = Vec::new();
            for (at, level) in pattern.split('/').enumerate() {
                let value = match level {
                    "%u" => user.unwrap_or_default(),
                    "%c" => client,
                    other => {
                        levels.push(other);
                        continue;
                    }
                };
                if can_stand(value, at) {
                    levels.push(value);
                } else if self.is_allow {
                    return None;
                } else {
                    levels.push("#");
                    break;
                }
            }
            TopicFilter::parse(&levels.join("/")).ok()
        };
        self.topics.iter().filter_map(filled).collect()
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "$x", "+", "%u", "%c"]);
    (prop::collection::vec(level, 0..4), any::<bool>()).prop_filter_map("a valid pattern", |(mut levels, below)| {
        levels.extend(below.then_some("#"));
        let text = levels.join("/");
        TopicFilter::parse(&text).is_ok().then_some(text)
    })
}

fn rule() -> impl Strategy<Value = RuleModel> {
    let some_of = |words: Vec<&'static str>, sizes| prop::collection::vec(prop::sample::select(words), sizes);
    (
        prop::bool::weighted(0.7),
        some_of(vec!["a", "b", "", "a*"], 0..3usize),
        some_of(vec!["a", "b/c", "$x"], 0..2),
        some_of(vec!["publish", "subscribe", "receive", "will", "write", "read"], 1..3),
        prop::collection::vec(pattern(), 1..3),
    )
        .prop_map(|(is_allow, users, clients, actions, topics)| RuleModel {
            is_allow,
            users,
            clients,
            actions,
            topics,
        })
}

fn user() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, Some("a"), Some("b"), Some("ab"), Some(""), Some("b/c"), Some("+"), Some("$x")])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn decisions_are_what_the_rules_say_in_any_order(
        rules in prop::collection::vec(rule(), 0..6),
        user in user(),
        client in prop::sample::select(vec!["a", "b", "b/c", "$x", "#"]),
        subscribed in filter(),
        rotation in 0..6usize,
    ) {
        let parse = |rules: &[RuleModel]| {
            let text: String = rules.iter().map(RuleModel::to_toml).collect();
            Rights::parse(&text, "rights").expect("generated valid")
        };
        let rights = parse(&rules);
        let mut rotated = rules.clone();
        rotated.rotate_left(rotation.min(rules.len()));
        let in_another_order = parse(&rotated);
        let identity = Identity { username: user.map(Into::into), ..Identity::default() };
        let who = Who { identity: &identity, client_id: client };

        let about = |action: Action, is_allow: bool| -> Vec<TopicFilter> {
            let fits = |rule: &&RuleModel| rule.is_allow == is_allow && rule.is_about(user, client, action);
            rules.iter().filter(fits).flat_map(|rule| rule.filters(user, client)).collect()
        };
        let filters = Action::ALL.map(|action| (action, about(action, true), about(action, false)));
        for topic in topics().step_by(7) {
            for (action, allowed, denied) in &filters {
                let defined = allowed.iter().any(|filter| filter.matches(topic)) && !denied.iter().any(|filter| filter.matches(topic));
                prop_assert_eq!(rights.may(who, *action, topic), defined, "{:?} {:?}", action, topic);
                prop_assert_eq!(in_another_order.may(who, *action, topic), defined);
                prop_assert_eq!(rights.explain(who, *action, topic).is_allowed, defined);
            }
            prop_assert_eq!(rights.explain_will(who, topic).is_allowed, rights.may_leave_will(who, topic));
        }
        let (_, allowed, denied) = &filters[1];
        let defined = allowed.iter().any(|filter| filter.covers(&subscribed)) && !denied.iter().any(|filter| filter.covers(&subscribed));
        prop_assert_eq!(rights.may_subscribe(who, &subscribed), defined);
        prop_assert_eq!(rights.explain_subscribe(who, &subscribed).is_allowed, defined);
        if rights.may_receive_all(who, &subscribed) {
            let unfit = topics().find(|topic| subscribed.matches(*topic) && !rights.may(who, Action::Receive, *topic));
            prop_assert_eq!(unfit, None);
        }
    }
}
