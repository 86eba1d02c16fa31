//! From the sources to validated settings, or to an error that says where to look.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::check::check;
use super::error::{ConfigError, Fault, Origin};
use super::kind::Given;
use super::names::{Names, PREFIX, Target};
use super::section::{List, Rejected, Section};

/// Variables of the command line: which file to read, and where `willowmq ctl` finds a broker. They are no settings.
const NO_SETTINGS: [&str; 3] = ["WILLOWMQ_CONFIG", "WILLOWMQ_URL", "WILLOWMQ_TOKEN_FILE"];

/// Where settings come from; a later field wins over an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// The configuration file, if there is one.
    pub file: Option<File<'a>>,
    /// Environment variables, all of them: those that do not begin with `WILLOWMQ_` are passed over.
    ///
    /// `WILLOWMQ_LIMITS_PACKET_BYTES_MAX` is `limits.packet_bytes_max`, `WILLOWMQ_LISTENERS_0_ADDRESS` the address of
    /// the first listener, `WILLOWMQ_LISTENERS` a TOML array of tables that replaces all listeners. The other lists are
    /// set likewise.
    pub environment: Vec<(String, String)>,
    /// Settings of the command line: a key such as `limits.packet_bytes_max` or `listeners.0.address`, and its value.
    pub flags: Vec<(String, String)>,
}

/// A configuration file that has been read.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its path, for errors.
    pub name: &'a str,
    /// Its contents, TOML.
    pub text: &'a str,
}

impl Config {
    /// The settings that `sources` give, each checked; what they leave out has its default.
    ///
    /// # Errors
    ///
    /// The first setting that is unknown or not allowed, with its place and what would be allowed.
    pub fn load(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let (config, said) = Self::read(sources)?;
        check(&config, &said)?;
        Ok(config)
    }

    /// As [`Config::load`], without the rules between keys.
    pub(super) fn read(sources: Sources<'_>) -> Result<(Self, Said), ConfigError> {
        let mut loader = Loader { config: Self::default(), said: Said::default(), names: Names::new() };
        if let Some(file) = sources.file {
            loader.read_file(file)?;
        }
        loader.read_environment(sources.environment)?;
        loader.read_flags(sources.flags)?;
        loader.settle_anonymous();
        Ok((loader.config, loader.said))
    }
}

/// What the sources say, by the paths of keys and of the items of lists: `limits.packet_bytes_max`, `listeners.0`,
/// `listeners.0.address`.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<String, Saying>);

/// One setting as its source gives it.
#[derive(Debug, Clone)]
pub(super) struct Saying {
    pub(super) origin: Origin,
    /// The key as the source names it.
    pub(super) key: String,
    /// The value as it stands there.
    pub(super) value: String,
}

impl Said {
    pub(super) fn get(&self, path: &str) -> Option<&Saying> {
        self.0.get(path)
    }

    fn note(&mut self, path: &str, saying: Saying) {
        self.0.insert(path.to_owned(), saying);
    }

    /// Forgets all that is within `path`.
    fn forget(&mut self, path: &str) {
        self.0.retain(|said, _| !said.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')));
    }
}

impl Saying {
    /// The error that this is not allowed.
    pub(super) fn refused(self, reason: String, allowed: &str) -> ConfigError {
        let fault = Fault::Value { value: self.value, reason, allowed: allowed.to_owned() };
        ConfigError::new(self.origin, self.key, fault)
    }
}

struct Loader {
    config: Config,
    said: Said,
    names: Names,
}

/// A TOML document, and where it stands.
struct Document<'a> {
    text: &'a str,
    /// The origin of what begins at a byte.
    origin: &'a dyn Fn(usize) -> Origin,
}

impl Document<'_> {
    fn saying(&self, key: &str, at: usize, value: &Spanned<DeValue<'_>>) -> Saying {
        Saying { origin: (self.origin)(at), key: key.to_owned(), value: self.text[value.span()].to_owned() }
    }
}

/// A setting from outside the file.
struct Assignment {
    target: Target,
    saying: Saying,
}

impl Loader {
    fn read_file(&mut self, file: File<'_>) -> Result<(), ConfigError> {
        let origin = |offset| Origin::File { name: file.name.to_owned(), line: line_of(file.text, offset) };
        let table = DeTable::parse(file.text).map_err(|error| {
            let origin = origin(error.span().map_or(0, |span| span.start));
            ConfigError::new(origin, "", Fault::Syntax(error.message().to_owned()))
        })?;
        self.read_table("", table.get_ref(), &Document { text: file.text, origin: &origin })
    }

    /// Reads a table of a document, and those within it. Its path has the numbers of items.
    fn read_table(&mut self, path: &str, table: &DeTable<'_>, document: &Document<'_>) -> Result<(), ConfigError> {
        // Tables are sorted by name; errors shall come in the order of the file.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            let name = self.names.without_index(&path);
            let saying = document.saying(&name, key.span().start, value);
            match value.get_ref() {
                value if self.names.is_list(&name) => self.read_list(&name, value, saying, document)?,
                DeValue::Table(table) if self.names.is_section(&name) => self.read_table(&path, table, document)?,
                _ if self.names.is_section(&name) => {
                    return Err(saying.refused("this is a section".to_owned(), "a table"));
                }
                given => self.set(&path, Given::Toml(given), saying)?,
            }
        }
        Ok(())
    }

    /// Replaces all items of a list by those of an array of tables.
    fn read_list(
        &mut self,
        list: &str,
        value: &DeValue<'_>,
        saying: Saying,
        document: &Document<'_>,
    ) -> Result<(), ConfigError> {
        let tables = value.as_array().and_then(|items| {
            items.iter().map(|item| Some((item, item.get_ref().as_table()?))).collect::<Option<Vec<_>>>()
        });
        let Some(tables) = tables else {
            let reason = match value {
                DeValue::Array(_) => "one of its items is no table".to_owned(),
                other => format!("this is of type {}, not an array of tables", other.type_str()),
            };
            let shown = Saying { value: "…".to_owned(), ..saying };
            return Err(shown.refused(reason, &format!("[[{list}]]")));
        };
        self.list(list).clear();
        self.said.forget(list);
        self.said.note(list, saying);
        for (index, (item, table)) in tables.into_iter().enumerate() {
            self.list(list).push_default();
            let path = format!("{list}.{index}");
            self.said.note(&path, document.saying(list, item.span().start, item));
            self.read_table(&path, table, document)?;
        }
        Ok(())
    }

    fn list(&mut self, name: &str) -> &mut dyn List {
        self.config.list(name).expect("the names of lists come from the settings themselves")
    }

    fn read_environment(&mut self, environment: Vec<(String, String)>) -> Result<(), ConfigError> {
        let mut assignments = Vec::new();
        for (key, value) in environment {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            if NO_SETTINGS.contains(&key.as_str()) || is_service_link(name) {
                continue;
            }
            let Some(target) = self.names.target_of_variable(&key) else {
                let nearest = self.names.nearest_variable(&key);
                return Err(ConfigError::new(Origin::Environment, key, Fault::Unknown { nearest }));
            };
            assignments.push(Assignment { target, saying: Saying { origin: Origin::Environment, key, value } });
        }
        self.assign(assignments)
    }

    fn read_flags(&mut self, flags: Vec<(String, String)>) -> Result<(), ConfigError> {
        let assignment = |(key, value): (String, _)| {
            let target = self.names.target_of_path(&key);
            Assignment { target, saying: Saying { origin: Origin::Flag, key, value } }
        };
        let assignments = flags.into_iter().map(assignment).collect();
        self.assign(assignments)
    }

    fn assign(&mut self, mut assignments: Vec<Assignment>) -> Result<(), ConfigError> {
        assignments.sort_by(|a, b| a.target.cmp(&b.target));
        for Assignment { target, saying } in assignments {
            let value = saying.value.clone();
            match target {
                Target::Key(path) => self.set(&path, Given::Bare(&value), saying)?,
                Target::List(list) => {
                    let parsed = DeValue::parse(&value).map_err(|error| {
                        let fault = Fault::Syntax(error.message().to_owned());
                        ConfigError::new(saying.origin.clone(), saying.key.clone(), fault)
                    })?;
                    let origin = saying.origin.clone();
                    let document = Document { text: &value, origin: &|_| origin.clone() };
                    self.read_list(&list, parsed.get_ref(), saying, &document)?;
                }
                Target::Item(list, index, key) => {
                    let path = format!("{list}.{index}");
                    match self.list(&list).len() {
                        len if index < len => {}
                        len if index == len => {
                            self.list(&list).push_default();
                            self.said.note(&path, saying.clone());
                        }
                        len => {
                            let reason = format!("there are {len} {list} before this one");
                            return Err(saying.refused(reason, &format!("{list} 0 to {len}")));
                        }
                    }
                    self.set(&format!("{path}.{key}"), Given::Bare(&value), saying)?;
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, path: &str, given: Given<'_>, saying: Saying) -> Result<(), ConfigError> {
        match self.config.set(path, given) {
            Some(Ok(())) => {
                self.said.note(path, saying);
                Ok(())
            }
            Some(Err(Rejected { reason, allowed })) => Err(saying.refused(reason, &allowed)),
            None => {
                let nearest = self.names.nearest_path(&saying.key);
                Err(ConfigError::new(saying.origin, saying.key, Fault::Unknown { nearest }))
            }
        }
    }

    /// Who says nothing lets anonymous clients in where only the machine itself can reach the listener, and nobody is
    /// asked who they are.
    fn settle_anonymous(&mut self) {
        let Config { listeners, authenticators, .. } = &mut self.config;
        for (index, listener) in listeners.iter_mut().enumerate() {
            if self.said.get(&format!("listeners.{index}.anonymous")).is_none() {
                listener.anonymous = listener.is_for_this_machine() && !listener.wants_authentication(authenticators);
            }
        }
    }
}

/// Whether Kubernetes sets the variable in every container beside a service called willowmq.
fn is_service_link(name: &str) -> bool {
    name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{AuthenticatorKind, OnShutdown, WillAcl};

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = Some(File { name: "willowmq.toml", text });
        Config::load(Sources { file, ..Sources::default() })
    }

    fn from_environment(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(Sources { environment: pairs(environment), ..Sources::default() })
    }

    fn from_flags(flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(Sources { flags: pairs(flags), ..Sources::default() })
    }

    fn message(result: Result<Config, ConfigError>) -> String {
        result.expect_err("the settings are wrong").to_string()
    }

    #[test]
    fn a_file_sets_keys_of_every_kind() {
        let config = from_file(
            "shards = 0x2\ndata_dir = '/var/lib/willowmq'\n[wills]\nacl = 'publish'\nmax_delay = '90s'\n\
             stamp = ['fleet/#']\n[wills.allow]\nretain = false\n[sessions]\nexpiry_3x = '7d'\n\
             [limits]\npacket_bytes_max = '64KiB'\nreceive_maximum = 1_000\n",
        )
        .unwrap();
        assert_eq!((config.shards, config.wills.acl), (Some(2), WillAcl::Publish));
        assert_eq!(config.wills.max_delay, Some(Duration::from_secs(90)));
        assert_eq!((config.wills.stamp, config.wills.allow.retain), (vec!["fleet/#".to_owned()], false));
        assert_eq!(config.sessions.expiry_3x, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!((config.limits.packet_bytes_max, config.limits.receive_maximum), (65_536, 1000));
    }

    #[test]
    fn a_dotted_key_is_the_key_of_its_table() {
        assert_eq!(from_file("wills.allow.qos_max = 1").unwrap().wills.allow.qos_max, 1);
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let config = Config::load(Sources {
            file: Some(File { name: "", text: "[wills]\nslice = 1\nshare = 1\nstale_guard = true\n" }),
            environment: pairs(&[("WILLOWMQ_WILLS_SLICE", "2"), ("WILLOWMQ_WILLS_SHARE", "2"), ("PATH", "/bin")]),
            flags: pairs(&[("wills.slice", "3")]),
        })
        .unwrap();
        assert_eq!((config.wills.slice, config.wills.share, config.wills.stale_guard), (3, 2, true));
    }

    #[test]
    fn the_environment_sets_text_without_quotes() {
        let config = from_environment(&[
            ("WILLOWMQ_SHARDS", "3"),
            ("WILLOWMQ_DATA_DIR", "7"),
            ("WILLOWMQ_LIMITS_PACKET_BYTES_MAX", "2MiB"),
            ("WILLOWMQ_WILLS_ON_SHUTDOWN", "publish"),
            ("WILLOWMQ_WILLS_ALLOW_TOPICS", "[\"a/#\", \"b\"]"),
            ("WILLOWMQ_FEATURES_RETAIN", "false"),
        ])
        .unwrap();
        assert_eq!((config.shards, config.data_dir), (Some(3), "7".into()));
        assert_eq!((config.limits.packet_bytes_max, config.features.retain), (2 << 20, false));
        assert_eq!(config.wills.on_shutdown, OnShutdown::Publish);
        assert_eq!(config.wills.allow.topics, ["a/#", "b"]);
    }

    #[test]
    fn variables_that_are_no_settings_are_passed_over() {
        let passed_over = [
            ("WILLOWMQ_CONFIG", "/etc/willowmq.toml"),
            ("WILLOWMQ_URL", "http://127.0.0.1:8080"),
            ("WILLOWMQ_TOKEN_FILE", "/etc/willowmq.token"),
            ("WILLOWMQ_PORT", "tcp://10.0.0.1:1883"),
            ("WILLOWMQ_PORT_1883_TCP_ADDR", "10.0.0.1"),
            ("WILLOWMQ_SERVICE_HOST", "10.0.0.1"),
        ];
        assert_eq!(from_environment(&passed_over), Ok(Config::default()));
    }

    /// Checks what is said about each text, behind the name of the file.
    fn assert_messages(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let message = message(from_file(text));
            assert_eq!(message.strip_prefix("willowmq.toml:"), Some(*expected), "{message}");
        }
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        assert_messages(&[
            (
                "[limits]\n\npacket_byte_max = 1",
                "3: there is no setting limits.packet_byte_max; did you mean limits.packet_bytes_max?",
            ),
            (
                "packet_bytes_max = '1MiB'",
                "1: there is no setting packet_bytes_max; did you mean limits.packet_bytes_max?",
            ),
            ("[limit]\npacket_bytes_max = '1MiB'", "1: there is no setting limit; did you mean limits?"),
            (
                "[[listeners]]\nadress = '127.0.0.1:1'",
                "2: there is no setting listeners.adress; did you mean listeners.address?",
            ),
            ("[replication]\n", "1: there is no setting replication"),
        ]);
    }

    #[test]
    fn an_unknown_variable_or_flag_is_told_by_its_own_name() {
        assert_eq!(
            message(from_environment(&[("WILLOWMQ_LIMITS_MAXIMUM_QSO", "1")])),
            "environment: there is no setting WILLOWMQ_LIMITS_MAXIMUM_QSO; did you mean WILLOWMQ_LIMITS_MAXIMUM_QOS?"
        );
        assert_eq!(
            message(from_flags(&[("wills.slcie", "1")])),
            "command line: there is no setting wills.slcie; did you mean wills.slice?"
        );
        // Sections are no settings.
        assert_eq!(message(from_flags(&[("wills", "1")])), "command line: there is no setting wills");
        assert_eq!(
            message(from_environment(&[("WILLOWMQ_SOMETHING", "debug")])),
            "environment: there is no setting WILLOWMQ_SOMETHING"
        );
    }

    #[test]
    fn a_value_that_is_not_allowed_names_its_place_and_the_range() {
        assert_messages(&[
            ("shards = 129", "1: shards = 129: this is too large; allowed: 1 to 128"),
            ("shards = -1", "1: shards = -1: this is too small; allowed: 1 to 128"),
            ("shards = '4'", "1: shards = '4': this is of type string, not a whole number; allowed: 1 to 128"),
            ("[shards]", "1: shards = [shards]: this is of type table, not a whole number; allowed: 1 to 128"),
            ("wills = 3", "1: wills = 3: this is a section; allowed: a table"),
            (
                "\n[limits]\nconnect_timeout = '10ms'",
                "3: limits.connect_timeout = '10ms': this is too small; allowed: 100ms to 1h",
            ),
            (
                "limits.write_timeout = '60'",
                "1: limits.write_timeout = '60': this has no unit; the units are us, ms, s, m, h, d; \
                 allowed: 1s to 1d",
            ),
            (
                "[wills]\nstamp = ['a/#/b']",
                "2: wills.stamp = ['a/#/b']: \"a/#/b\" is not a Topic Filter; allowed: a list of Topic Filters",
            ),
        ]);
        assert_eq!(
            message(from_environment(&[("WILLOWMQ_LIMITS_MAXIMUM_QOS", "3")])),
            "environment: WILLOWMQ_LIMITS_MAXIMUM_QOS = 3: this is too large; allowed: 0 to 2"
        );
    }

    #[test]
    fn text_that_is_not_toml_names_its_line() {
        assert!(message(from_file("shards = 1\nshards = = 2\n")).starts_with("willowmq.toml:2: "));
        assert!(message(from_file("shards = 1\nshards = 2\n")).starts_with("willowmq.toml:2: "));
        assert!(
            message(from_environment(&[("WILLOWMQ_LISTENERS", "[{")])).starts_with("environment: WILLOWMQ_LISTENERS: ")
        );
    }

    #[test]
    fn the_environment_changes_adds_and_replaces_listeners() {
        let ports = |environment: &[(&str, &str)]| {
            from_environment(environment)
                .map(|config| config.listeners.iter().map(|l| l.address.port()).collect::<Vec<_>>())
        };
        let first = ("WILLOWMQ_LISTENERS_0_ADDRESS", "127.0.0.1:1");
        let second = ("WILLOWMQ_LISTENERS_1_ADDRESS", "127.0.0.1:2");
        let all = ("WILLOWMQ_LISTENERS", "[{ address = '127.0.0.1:3' }, { address = '127.0.0.1:4' }]");
        assert_eq!(ports(&[first]), Ok(vec![1]));
        assert_eq!(ports(&[second, first]), Ok(vec![1, 2]));
        assert_eq!(ports(&[second, all]), Ok(vec![3, 2]));
        assert_eq!(
            message(from_environment(&[("WILLOWMQ_LISTENERS_2_ADDRESS", "127.0.0.1:2")])),
            "environment: WILLOWMQ_LISTENERS_2_ADDRESS = 127.0.0.1:2: there are 1 listeners before this one; \
             allowed: listeners 0 to 1"
        );
    }

    #[test]
    fn every_list_is_set_by_file_environment_and_flags() {
        let (config, _) = Config::read(Sources {
            file: Some(File {
                name: "",
                text: "[[listeners]]\n[listeners.limits]\ninflight_max = 1\ntopic_levels_max = 1\n\
                       [[identities]]\nusers = ['a']\nlimits.receive_maximum = 2\n[[identities]]\nusers = ['b']\n",
            }),
            environment: pairs(&[
                ("WILLOWMQ_LISTENERS_0_LIMITS_INFLIGHT_MAX", "3"),
                ("WILLOWMQ_AUTHENTICATORS", "[{ name = 'one', leeway = '4s' }, { name = 'two' }]"),
                ("WILLOWMQ_AUTHENTICATORS_2_NAME", "three"),
                ("WILLOWMQ_IDENTITIES_1_LIMITS_PACKET_BYTES_MAX", "1MiB"),
            ]),
            flags: pairs(&[("identities.0.limits.receive_maximum", "5"), ("authenticators.1.kind", "jwt")]),
        })
        .unwrap();
        let of_listener = &config.listeners[0].limits;
        assert_eq!((of_listener.inflight_max, of_listener.topic_levels_max), (Some(3), Some(1)));
        let names: Vec<_> = config.authenticators.iter().map(|authenticator| authenticator.name.as_str()).collect();
        assert_eq!(names, ["one", "two", "three"]);
        assert_eq!(config.authenticators[0].leeway, Duration::from_secs(4));
        assert_eq!(config.authenticators[1].kind, AuthenticatorKind::Jwt);
        assert_eq!((&*config.identities[1].users[0], config.identities.len()), ("b", 2));
        assert_eq!(config.identities[0].limits.receive_maximum, Some(5));
        assert_eq!(config.identities[1].limits.packet_bytes_max, Some(1 << 20));
    }

    #[test]
    fn keys_of_lists_are_suggested_and_checked_like_others() {
        assert_messages(&[
            (
                "[[listeners]]\n[listeners.limit]\n",
                "2: there is no setting listeners.limit; did you mean listeners.limits?",
            ),
            (
                "[[identities]]\nlimits.infligt_max = 1\n",
                "2: there is no setting identities.limits.infligt_max; did you mean identities.limits.inflight_max?",
            ),
            (
                "[[listeners]]\nlimits.inflight_max = 0\n",
                "2: listeners.limits.inflight_max = 0: this is too small; allowed: 1 to 65535",
            ),
            (
                "[[listeners]]\nmode = '0888'\n",
                "2: listeners.mode = '0888': these are no octal permissions; allowed: 0000 to 0777",
            ),
            (
                "[listeners]\naddress = '127.0.0.1:1'\n",
                "1: listeners = …: this is of type table, not an array of tables; allowed: [[listeners]]",
            ),
            ("identities = [1]\n", "1: identities = …: one of its items is no table; allowed: [[identities]]"),
        ]);
        assert_eq!(
            message(from_environment(&[("WILLOWMQ_AUTHENTICATORS_3_URI", "x")])),
            "environment: there is no setting WILLOWMQ_AUTHENTICATORS_3_URI; did you mean WILLOWMQ_AUTHENTICATORS_3_URL?"
        );
        assert_eq!(
            message(from_flags(&[("identities.1.users", "a")])),
            "command line: identities.1.users = a: there are 0 identities before this one; allowed: identities 0 to 0"
        );
    }

    const LINES: [&str; 22] = [
        "[[listeners]]",
        "[listeners]",
        "[listeners.limits]",
        "[listeners.limits.more]",
        "[[listeners.limits]]",
        "[[identities]]",
        "[identities.limits]",
        "[[authenticators]]",
        "[limits]",
        "[wills.allow]",
        "[[wills]]",
        "address = '127.0.0.1:1'",
        "limits.inflight_max = 1",
        "limits = { inflight_max = 1, topic_levels_max = '2' }",
        "listeners = [{ address = '[::1]:1', limits.inflight_max = 2 }, {}]",
        "listeners.0.address = '127.0.0.1:1'",
        "identities = []",
        "authenticators = [1, {}]",
        "users = ['é', \"\"\"\na\"\"\"]",
        "name = \"a\\u00e9\"",
        "kind = 'jwt'",
        "shards = 1979-05-27",
    ];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Whatever stands in a file, it is taken or refused with a line that exists.
        #[test]
        fn any_file_is_taken_or_refused(lines in proptest::collection::vec(0..LINES.len(), 0..8)) {
            let text = lines.into_iter().map(|line| LINES[line]).collect::<Vec<_>>().join("\n");
            if let Err(ConfigError { origin: Origin::File { line, .. }, .. }) = from_file(&text) {
                proptest::prop_assert!((1..=text.lines().count().max(1)).contains(&line), "line {line} of\n{text}");
            }
        }

        #[test]
        fn any_variable_and_flag_is_taken_or_refused(
            name in "(LISTENERS|IDENTITIES|LIMITS)_?[0-9]{0,3}_?[A-Z_0-9]{0,12}",
            path in "(listeners|identities|limits)[.]?[0-9]{0,3}[.]?[a-z_.0-9]{0,12}",
            value in ".{0,12}",
        ) {
            let _ = from_environment(&[(&format!("{PREFIX}{name}"), &value)]);
            let _ = from_flags(&[(&path, &value)]);
        }
    }
}
