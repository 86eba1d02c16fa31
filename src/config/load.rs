//! From the sources to validated settings, or to an error that says where to look.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Fault, Origin};
use super::kind::Given;
use super::section::{Header, Rejected, Section};
use super::suggest::nearest;
use super::{Config, Listener};

/// What every environment variable of ours begins with.
const PREFIX: &str = "WILLOWMQ_";
/// Tells which file to read, so it is read before us and is no setting.
const FILE_VARIABLE: &str = "WILLOWMQ_CONFIG";

/// Where settings come from; a later field wins over an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// The configuration file, if there is one.
    pub file: Option<File<'a>>,
    /// Environment variables, all of them: those that do not begin with `WILLOWMQ_` are passed over.
    ///
    /// `WILLOWMQ_LIMITS_PACKET_BYTES_MAX` is `limits.packet_bytes_max`, `WILLOWMQ_LISTENERS_0_ADDRESS` the address of
    /// the first listener, `WILLOWMQ_LISTENERS` a TOML array of tables that replaces all listeners.
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

/// The environment variable of a key: `limits.packet_bytes_max` is set by `WILLOWMQ_LIMITS_PACKET_BYTES_MAX`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_uppercase())
}

impl Config {
    /// The settings that `sources` give, each checked; what they leave out has its default.
    ///
    /// # Errors
    ///
    /// The first setting that is unknown or not allowed, with its place and what would be allowed.
    pub fn load(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let mut loader = Loader::new();
        if let Some(file) = sources.file {
            loader.read_file(file)?;
        }
        loader.read_environment(sources.environment)?;
        loader.read_flags(sources.flags)?;
        loader.finish()
    }
}

struct Loader {
    config: Config,
    listeners: Vec<Draft>,
    /// Names of all keys and sections, for suggestions.
    known: Vec<String>,
}

/// A listener whose settings are not complete yet.
struct Draft {
    listener: Listener,
    /// Whether a source says who may connect; the address decides otherwise.
    says_anonymous: bool,
    /// Of the address, or of the whole listener.
    origin: Origin,
}

impl Draft {
    fn new(origin: Origin) -> Self {
        Self { listener: Listener::default(), says_anonymous: false, origin }
    }
}

/// What a setting outside the file sets, in the order in which it has to be set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Key(String),
    Listeners,
    Listener(usize, String),
}

impl Target {
    fn parse(path: &str) -> Self {
        match path.strip_prefix("listeners.").and_then(|rest| rest.split_once('.')) {
            _ if path == "listeners" => Self::Listeners,
            Some((index, key)) if let Ok(index) = index.parse() => Self::Listener(index, key.to_owned()),
            _ => Self::Key(path.to_owned()),
        }
    }
}

/// A setting from outside the file.
struct Assignment {
    target: Target,
    /// The setting as its source names it.
    key: String,
    value: String,
    origin: Origin,
}

impl Loader {
    fn new() -> Self {
        let groups = Config::default().groups();
        let known = groups.iter().flat_map(|group| {
            let section = match &group.header {
                Header::Top => None,
                Header::Table(path) | Header::Item(path) => Some(path.clone()),
            };
            section.into_iter().chain(group.keys.iter().map(|key| group.header.join(key.name)))
        });
        let known = known.collect();
        Self { config: Config::default(), listeners: vec![Draft::new(Origin::Default)], known }
    }

    fn read_file(&mut self, file: File<'_>) -> Result<(), ConfigError> {
        let table = DeTable::parse(file.text).map_err(|error| {
            let line = line_of(file.text, error.span().map_or(0, |span| span.start));
            let origin = Origin::File { name: file.name.to_owned(), line };
            ConfigError::new(origin, "", Fault::Syntax(error.message().to_owned()))
        })?;
        let place = |offset| Origin::File { name: file.name.to_owned(), line: line_of(file.text, offset) };
        self.read_table("", table.get_ref(), file.text, &place)
    }

    /// Reads a table of the file, and those within it.
    fn read_table(
        &mut self,
        path: &str,
        table: &DeTable<'_>,
        text: &str,
        place: &dyn Fn(usize) -> Origin,
    ) -> Result<(), ConfigError> {
        // Tables are sorted by name; errors shall come in the order of the file.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            let origin = place(key.span().start);
            let shown = || source_text(text, value);
            match value.get_ref() {
                value if path == "listeners" => self.read_listeners(value, text, &origin, place)?,
                DeValue::Table(table) if self.is_section(&path) => self.read_table(&path, table, text, place)?,
                _ if self.is_section(&path) => {
                    return Err(not_allowed(origin, &path, &shown(), "this is a section".to_owned(), "a table"));
                }
                given => {
                    let set = self.config.set(&path, Given::Toml(given));
                    self.check(set, origin, path, shown)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the known name is that of a section, not of a key.
    fn is_section(&self, path: &str) -> bool {
        self.known.iter().any(|known| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Replaces all listeners by those of an array of tables.
    fn read_listeners(
        &mut self,
        value: &DeValue<'_>,
        text: &str,
        origin: &Origin,
        place: &dyn Fn(usize) -> Origin,
    ) -> Result<(), ConfigError> {
        let items = value.as_array().filter(|items| !items.is_empty());
        let tables: Option<Vec<_>> =
            items.and_then(|items| items.iter().map(|item| Some((item.span(), item.get_ref().as_table()?))).collect());
        let Some(tables) = tables else {
            let reason = format!("this is not at least one table but of type {}", value.type_str());
            return Err(not_allowed(origin.clone(), "listeners", "…", reason, "[[listeners]] with an address"));
        };
        self.listeners.clear();
        for (span, table) in tables {
            let mut draft = Draft::new(place(span.start));
            for (key, value) in table {
                let origin = place(key.span().start);
                self.set_listener(&mut draft, key.get_ref(), Given::Toml(value.get_ref()), origin, None, || {
                    source_text(text, value)
                })?;
            }
            self.listeners.push(draft);
        }
        Ok(())
    }

    /// Sets one key of a listener; errors name it as `shown`, or else as `listeners.key`.
    fn set_listener(
        &self,
        draft: &mut Draft,
        key: &str,
        given: Given<'_>,
        origin: Origin,
        shown: Option<&str>,
        value: impl FnOnce() -> String,
    ) -> Result<(), ConfigError> {
        draft.says_anonymous |= key == "anonymous";
        if key == "address" {
            draft.origin = origin.clone();
        }
        let shown = shown.map_or_else(|| format!("listeners.{key}"), str::to_owned);
        self.check(draft.listener.set(key, given), origin, shown, value)
    }

    fn read_environment(&mut self, environment: Vec<(String, String)>) -> Result<(), ConfigError> {
        let mut assignments = Vec::new();
        for (key, value) in environment {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            if key == FILE_VARIABLE || is_service_link(name) {
                continue;
            }
            let target = match self.target_of_variable(name) {
                Some(target) => target,
                None => return Err(self.unknown_variable(key)),
            };
            assignments.push(Assignment { target, key, value, origin: Origin::Environment });
        }
        self.assign(assignments)
    }

    fn target_of_variable(&self, name: &str) -> Option<Target> {
        if name == "LISTENERS" {
            return Some(Target::Listeners);
        }
        if let Some((index, key)) = name.strip_prefix("LISTENERS_").and_then(|rest| rest.split_once('_')) {
            let key = key.to_lowercase();
            let known = self.known.contains(&format!("listeners.{key}"));
            return index.parse().ok().filter(|_| known).map(|index| Target::Listener(index, key));
        }
        let whole = format!("{PREFIX}{name}");
        self.keys().find(|path| variable(path) == whole).map(|path| Target::Key(path.to_owned()))
    }

    /// The known names that are keys.
    fn keys(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(String::as_str).filter(|path| !self.is_section(path))
    }

    fn unknown_variable(&self, key: String) -> ConfigError {
        let variables: Vec<_> = self.keys().map(variable).collect();
        let nearest = nearest(&key, variables.iter().map(String::as_str)).map(str::to_owned);
        ConfigError::new(Origin::Environment, key, Fault::Unknown { nearest })
    }

    fn read_flags(&mut self, flags: Vec<(String, String)>) -> Result<(), ConfigError> {
        let assignment =
            |(key, value): (String, _)| Assignment { target: Target::parse(&key), key, value, origin: Origin::Flag };
        self.assign(flags.into_iter().map(assignment).collect())
    }

    fn assign(&mut self, mut assignments: Vec<Assignment>) -> Result<(), ConfigError> {
        assignments.sort_by(|a, b| a.target.cmp(&b.target));
        for Assignment { target, key, value, origin } in assignments {
            let given = Given::Bare(&value);
            match target {
                Target::Key(path) => {
                    let set = self.config.set(&path, given);
                    self.check(set, origin, key, || value.clone())?;
                }
                Target::Listeners => {
                    let parsed = DeValue::parse(&value).map_err(|error| {
                        ConfigError::new(origin.clone(), key.clone(), Fault::Syntax(error.message().to_owned()))
                    })?;
                    self.read_listeners(parsed.get_ref(), &value, &origin, &|_| origin.clone())?;
                }
                Target::Listener(index, name) => {
                    let mut draft = match self.listeners.len() {
                        len if index < len => {
                            std::mem::replace(&mut self.listeners[index], Draft::new(Origin::Default))
                        }
                        len if index == len => {
                            self.listeners.push(Draft::new(Origin::Default));
                            Draft::new(origin.clone())
                        }
                        len => {
                            let reason = format!("there are {len} listeners before this one");
                            let allowed = format!("listeners 0 to {len}");
                            return Err(not_allowed(origin, &key, &value, reason, &allowed));
                        }
                    };
                    self.set_listener(&mut draft, &name, given, origin, Some(&key), || value.clone())?;
                    self.listeners[index] = draft;
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        for draft in &mut self.listeners {
            if !draft.says_anonymous {
                draft.listener.anonymous = draft.listener.address.ip().is_loopback();
            }
        }
        for (index, draft) in self.listeners.iter().enumerate() {
            let address = draft.listener.address;
            let before = &self.listeners[..index];
            if !draft.listener.anonymous {
                let reason = "clients could not connect here: this version cannot check credentials".to_owned();
                let (key, allowed) = ("listeners.address", "a loopback address, or any with anonymous = true");
                return Err(not_allowed(draft.origin.clone(), key, &address.to_string(), reason, allowed));
            }
            // Port 0 is a free one, another each time.
            if address.port() != 0 && before.iter().any(|other| other.listener.address == address) {
                let reason = "another listener has this address".to_owned();
                let (key, allowed) = ("listeners.address", "addresses that differ");
                return Err(not_allowed(draft.origin.clone(), key, &address.to_string(), reason, allowed));
            }
        }
        self.config.listeners = self.listeners.into_iter().map(|draft| draft.listener).collect();
        Ok(self.config)
    }

    fn check(
        &self,
        set: Option<Result<(), Rejected>>,
        origin: Origin,
        key: String,
        value: impl FnOnce() -> String,
    ) -> Result<(), ConfigError> {
        match set {
            Some(Ok(())) => Ok(()),
            Some(Err(Rejected { reason, allowed })) => Err(not_allowed(origin, &key, &value(), reason, &allowed)),
            None => Err(self.unknown(origin, key)),
        }
    }

    fn unknown(&self, origin: Origin, key: String) -> ConfigError {
        let others = self.known.iter().map(String::as_str).filter(|&known| known != key);
        let nearest = nearest(&key, others).map(str::to_owned);
        ConfigError::new(origin, key, Fault::Unknown { nearest })
    }
}

fn not_allowed(origin: Origin, key: &str, value: &str, reason: String, allowed: &str) -> ConfigError {
    let fault = Fault::Value { value: value.to_owned(), reason, allowed: allowed.to_owned() };
    ConfigError::new(origin, key, fault)
}

/// Whether Kubernetes sets the variable in every container beside a service called willowmq.
fn is_service_link(name: &str) -> bool {
    name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}

fn source_text(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    text[value.span()].to_owned()
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{OnShutdown, WillAcl};

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
            ("[persistence]\n", "1: there is no setting persistence"),
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
            message(from_environment(&[("WILLOWMQ_LOG", "debug")])),
            "environment: there is no setting WILLOWMQ_LOG"
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
    fn what_this_version_does_not_have_is_refused_with_the_reason() {
        assert_messages(&[
            (
                "[[listeners]]\nkind = 'ws'",
                "2: listeners.kind = 'ws': this version listens on plain TCP only; allowed: \"tcp\"",
            ),
            (
                "[[listeners]]\nkind = 'tls'",
                "2: listeners.kind = 'tls': this version listens on plain TCP only; let a proxy end TLS; \
                 allowed: \"tcp\"",
            ),
        ]);
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
    fn anonymous_clients_are_let_in_on_loopback_only_unless_a_listener_says_so() {
        let config = from_file("[[listeners]]\naddress = '[::1]:1883'\n").unwrap();
        assert!(config.listeners[0].anonymous);
        assert_eq!(
            message(from_file("[[listeners]]\n[[listeners]]\naddress = '0.0.0.0:1883'\n")),
            "willowmq.toml:3: listeners.address = 0.0.0.0:1883: clients could not connect here: this version cannot \
             check credentials; allowed: a loopback address, or any with anonymous = true"
        );
        assert!(from_file("[[listeners]]\naddress = '0.0.0.0:1883'\nanonymous = true\n").is_ok());
        assert!(from_file("[[listeners]]\nanonymous = false\n").is_err());
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
    fn listeners_are_at_least_one_and_have_addresses_of_their_own() {
        assert!(message(from_file("listeners = []")).contains("[[listeners]] with an address"));
        let twice = "[[listeners]]\naddress = '127.0.0.1:5'\n[[listeners]]\naddress = '127.0.0.1:5'\n";
        assert!(message(from_file(twice)).starts_with("willowmq.toml:4: listeners.address = 127.0.0.1:5: another"));
        assert!(from_file(&twice.replace(":5", ":0")).is_ok());
    }
}
