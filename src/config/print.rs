//! The settings as text: the effective configuration, and the reference.

use std::fmt::Write;

use super::Config;
use super::difference::needs_restart;
use super::names::variable;
use super::section::{Group, Key, Place, Section};

impl Config {
    /// The settings as a commented TOML document, which [`Config::load`] reads back to the same settings.
    pub fn to_toml(&self) -> String {
        self.written(false)
    }

    /// As [`Config::to_toml`], with marks before all that is as it is by default: a file to begin with.
    ///
    /// A default that is not said can follow from other settings, and it should: whoever gives a listener an address that the world
    /// can reach has not said that the world may come in.
    pub fn to_sample(&self) -> String {
        self.written(true)
    }

    fn written(&self, mark_defaults: bool) -> String {
        let defaults = Self::default().groups();
        let mut out = String::new();
        for group in self.groups() {
            let default = defaults.iter().find(|default| default.place == group.place);
            write_group(&mut out, &group, default.expect("every section has its defaults"), mark_defaults);
        }
        out
    }

    /// Every section with its keys and their present values, in the order of the file.
    pub(super) fn groups(&self) -> Vec<Group> {
        let mut groups = Vec::new();
        self.describe(Place::default(), &["Settings of WillowMQ"], &mut groups);
        groups
    }
}

fn write_group(out: &mut String, group: &Group, defaults: &Group, mark_defaults: bool) {
    // An example is what would be said if it were not for the marks in front of it.
    let mark = if group.is_example { "# " } else { "" };
    for line in group.doc {
        let _ = writeln!(out, "# {}", line.trim());
    }
    if let Some(header) = group.place.header() {
        let _ = writeln!(out, "{mark}{header}");
    }
    for (key, default) in group.keys.iter().zip(&defaults.keys) {
        out.push('\n');
        for line in key.doc {
            let _ = writeln!(out, "# {}", line.trim());
        }
        let when = if needs_restart(&group.place.key(key.name)) { " A change needs a restart." } else { "" };
        let _ = writeln!(out, "# Allowed: {}. Default: {}.{when}", key.allowed, shown(default));
        let mark = if mark_defaults && key.value == default.value { "# " } else { mark };
        let _ = match &key.value {
            Some(value) => writeln!(out, "{mark}{} = {value}", key.name),
            None => writeln!(out, "# {} =", key.name),
        };
    }
    out.push('\n');
}

fn shown(key: &Key) -> &str {
    key.value.as_deref().unwrap_or("unset")
}

/// The reference of all keys in Markdown: default, allowed values, environment variable and meaning.
pub fn reference() -> String {
    let mut out = String::from("# Settings\n");
    for group in Config::default().groups() {
        let title = group.place.header().map_or("Before the first table".to_owned(), |header| format!("`{header}`"));
        let _ = write!(out, "\n## {title}\n\n{}\n\n", joined(group.doc));
        out.push_str("| Key | Default | Allowed | Environment | A change | Meaning |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for key in &group.keys {
            let (name, default, allowed, meaning) = (key.name, shown(key), &key.allowed, joined(key.doc));
            let variable = variable(&group.place.key_of_first(name));
            let when = if needs_restart(&group.place.key(name)) { "needs a restart" } else { "is taken over" };
            let meaning = meaning.replace('|', "\\|");
            let row = format!("`{name}` | `{default}` | {allowed} | `{variable}` | {when} | {meaning}");
            let _ = writeln!(out, "| {row} |");
        }
    }
    out
}

fn joined(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::config::{
        Authenticator, Durability, File, Identities, Listener, LogFormat, QueueDrop, RestartGrace, Sources,
    };

    fn parsed(text: &str) -> Config {
        let file = Some(File { name: "printed.toml", text });
        let read = Config::read(Sources { file, ..Sources::default() });
        read.unwrap_or_else(|error| panic!("{error}\n{text}")).0
    }

    /// Every key by its path, those of a list for its first item.
    fn keys() -> Vec<(String, Key)> {
        let groups = Config::default().groups().into_iter();
        groups
            .flat_map(|Group { place, keys, .. }| keys.into_iter().map(move |key| (place.key_of_first(key.name), key)))
            .collect()
    }

    /// The ends of the range, or the choices, that a key says it allows.
    fn allowed_values(key: &Key) -> Vec<String> {
        let allowed = key.allowed.replace(", or never", " or never");
        match allowed.as_str() {
            "a path" | "any text but the empty one" => vec!["a \"quoted\" text\\".to_owned()],
            "a word of letters, digits, - and _" => vec!["a-1_B".to_owned()],
            "a list of texts" => vec![String::new(), "a".to_owned(), r#"["a", "b\"c"]"#.to_owned()],
            address if address.starts_with("an IP address") => vec!["[::]:1".to_owned()],
            "a list of Topic Filters" => vec![String::new(), "a/+".to_owned(), r##"["a/#", "b\"c"]"##.to_owned()],
            _ => {
                allowed.split(" or ").flat_map(|part| part.split(" to ")).map(|v| v.trim_matches('"').into()).collect()
            }
        }
    }

    #[test]
    fn the_printed_defaults_parse_to_the_defaults() {
        assert_eq!(parsed(&Config::default().to_toml()), Config::default());
        assert_eq!(parsed(""), Config::default());
    }

    #[test]
    fn every_key_takes_what_it_says_it_allows_and_prints_it() {
        for (path, key) in keys() {
            for value in allowed_values(&key) {
                let flags = vec![(path.clone(), value)];
                let (config, _) = Config::read(Sources { flags, ..Sources::default() }).expect("the value is allowed");
                assert_eq!(parsed(&config.to_toml()), config, "{path}");
            }
        }
    }

    #[test]
    fn a_configuration_far_from_the_defaults_survives_printing() {
        let mut config = Config { shards: Some(7), data_dir: "/tmp/a \"b\"\\".into(), ..Config::default() };
        config.log.format = LogFormat::Json;
        config.wills.max_delay = Some(Duration::from_micros(1_500_001));
        config.wills.stamp = vec!["a/+/b".into(), "é/#".into()];
        config.wills.allow.payload_bytes_max = Some(0);
        config.sessions.expiry_3x = Some(Duration::from_secs(86_400));
        config.durability = Durability::Relaxed;
        config.journal.segment_bytes = 1 << 20;
        config.wills.restart_grace = RestartGrace::After(Duration::from_millis(1500));
        config.sessions.queue_age_max = Some(Duration::from_secs(60));
        config.sessions.queue_drop = QueueDrop::Oldest;
        config.limits.packet_bytes_max = 65_537;
        let outside =
            Listener { address: "[::]:8883".parse().unwrap(), connections_max: Some(9), ..Listener::default() };
        config.listeners.push(outside);
        config.listeners[0].limits.topic_levels_max = Some(7);
        config.authenticators.push(Authenticator { name: "staff".into(), ..Authenticator::default() });
        let mut guests =
            Identities { users: vec!["guest-*".into()], connections_max: Some(2), ..Identities::default() };
        guests.limits.packet_bytes_max = Some(1024);
        config.identities = vec![guests, Identities { users: vec!["*".into()], ..Identities::default() }];
        assert_eq!(parsed(&config.to_toml()), config);
    }

    #[test]
    fn a_sample_says_only_what_is_not_the_default() {
        let sample = Config::default().to_sample();
        assert_eq!(parsed(&sample), Config::default());
        let said: Vec<_> = sample.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).collect();
        assert_eq!(said, [""; 0]);
        assert!(sample.contains("\n# anonymous = true\n") && sample.contains("\n[[listeners]]\n"), "{sample}");
        let config = Config { data_dir: "/var/lib/willowmq".into(), ..Config::default() };
        assert!(config.to_sample().contains("\ndata_dir = \"/var/lib/willowmq\"\n"));
        assert_eq!(parsed(&config.to_sample()), config);
        // What the listener's address asks for is settled anew.
        let outside = sample.replace("# address = \"127.0.0.1:1883\"", "address = \"0.0.0.0:1883\"");
        assert!(!parsed(&outside).listeners[0].anonymous);
    }

    #[test]
    fn comments_say_meaning_range_and_default() {
        let toml = Config::default().to_toml();
        let expected = "# Longest Client Identifier. Every server has to take 23 bytes [MQTT-3.1.3-5].\n\
                        # Allowed: 23 to 65535. Default: 1024.\nclient_id_bytes_max = 1024\n";
        assert!(toml.contains(expected), "{toml}");
        assert!(toml.contains("Default: unset. A change needs a restart.\n# shards =\n"), "{toml}");
    }

    #[test]
    fn an_empty_list_shows_an_example_that_is_good_once_its_marks_are_gone() {
        let toml = Config::default().to_toml();
        let example = toml.split_once("# [[authenticators]]\n").expect("an example").1;
        let example = example.split_once("# [[identities]]\n").expect("the next list").0;
        assert!(example.contains("\n# kind = \"password\"\n"), "{example}");
        let keys = example.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| {
            line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        });
        let config = parsed(&format!("[[authenticators]]\n{}", keys.collect::<Vec<_>>().join("\n")));
        assert_eq!(config.authenticators, [Authenticator::default()]);
    }

    #[test]
    fn the_reference_has_a_row_for_every_key() {
        let reference = reference();
        for (path, key) in keys() {
            let row = reference.lines().find(|line| line.contains(&format!("`{}`", variable(&path))));
            assert!(row.is_some_and(|row| row.starts_with(&format!("| `{}` |", key.name))), "{path}");
        }
        assert!(reference.contains("| `address` | `\"127.0.0.1:1883\"` |"), "{reference}");
        assert!(reference.contains("`WILLOWMQ_LISTENERS_0_ADDRESS` | is taken over |"), "{reference}");
        assert!(reference.contains("`WILLOWMQ_DATA_DIR` | needs a restart |"), "{reference}");
        assert!(reference.contains("`WILLOWMQ_IDENTITIES_0_LIMITS_PACKET_BYTES_MAX`"), "{reference}");
    }

    #[test]
    fn every_key_is_documented_and_has_a_variable_of_its_own() {
        let keys = keys();
        let variables: HashSet<_> = keys.iter().map(|(path, _)| variable(path)).collect();
        assert_eq!(variables.len(), keys.len());
        assert!(keys.iter().all(|(_, key)| !key.doc.is_empty()));
    }
}
