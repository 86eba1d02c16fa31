//! What differs between two configurations, key by key, and which keys wait for a restart.
//!
//! A running broker takes new settings over while its clients stay ([`difference`], [`Config::keep_until_restart`]). Some keys are about
//! what is laid out once, at the start; they are named here, in [`RESTART`], and nowhere else.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::section::{Group, Key};
use super::{Config, Listener, Log};

/// Keys, or sections with all keys in them, that take effect at the next start.
const RESTART: &[&str] = &[
    // Decides which shard is home to whom, and where and how what they keep lies on the disk.
    "shards",
    "data_dir",
    "durability",
    // Where the log goes is set up before anything else.
    "log.format",
    "log.target",
    "log.file",
    "log.file_bytes_max",
    "log.files_max",
    // The files and buffers of a journal are laid out when it is opened.
    "journal.segment_bytes",
    "journal.sync_interval",
    "journal.retry_interval",
    "journal.backlog_bytes_max",
    "journal.reads_max",
    // Task queues have their shares from the beginning, and the lanes between shards their length.
    "wills.share",
    "limits.mesh_messages_max",
    // What was told of clients would stay where it is retained, and nobody would tell of their end.
    "presence.enabled",
    "presence.root",
    "presence.retain",
    // Whoever asks for the reload may be connected there.
    "admin",
];

/// A key whose value is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path, such as `limits.packet_bytes_max` or `listeners.1.backlog`; for an item of a list that came or went, that of the item.
    pub key: String,
    /// What it was, as TOML without what is secret; `None` where it was unset, or there was no such item.
    pub old: Option<String>,
    /// What it is.
    pub new: Option<String>,
    /// Whether that takes effect at the next start only.
    pub needs_restart: bool,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its path.
    pub key: String,
    /// What it is, as TOML without what is secret; `None` where it is unset.
    pub value: Option<String>,
    /// What it is where nothing is said; for what follows from other settings, what it is most often.
    pub default: Option<String>,
    /// Whether a change takes effect at the next start only.
    pub needs_restart: bool,
}

/// Whether a change of the key with this path, or of what is in the section with it, takes effect at the next start only.
pub fn needs_restart(key: &str) -> bool {
    RESTART.iter().any(|&prefix| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

impl Config {
    /// All keys with their values, in the order of the file.
    pub fn settings(&self) -> Vec<Setting> {
        let defaults: HashMap<_, _> = Self::default()
            .groups()
            .into_iter()
            .flat_map(|Group { place, keys, .. }| keys.into_iter().map(move |key| (place.key(key.name), key.value)))
            .collect();
        let setting = |Entry { key, in_file, value }: Entry| Setting {
            needs_restart: needs_restart(&key),
            default: defaults.get(&in_file).cloned().flatten(),
            value: value.map(|value| masked(&key, value)),
            key,
        };
        entries(self).into_iter().map(setting).collect()
    }

    /// Puts back what takes effect at the next start only: those keys get the values that they have in `running`.
    pub fn keep_until_restart(&mut self, running: &Self) {
        self.shards = running.shards;
        self.data_dir.clone_from(&running.data_dir);
        self.durability = running.durability;
        self.log = Log {
            level: self.log.level.clone(),
            lines_per_second_max: self.log.lines_per_second_max,
            ..running.log.clone()
        };
        self.journal.segment_bytes = running.journal.segment_bytes;
        self.journal.sync_interval = running.journal.sync_interval;
        self.journal.retry_interval = running.journal.retry_interval;
        self.journal.backlog_bytes_max = running.journal.backlog_bytes_max;
        self.journal.reads_max = running.journal.reads_max;
        self.wills.share = running.wills.share;
        self.limits.mesh_messages_max = running.limits.mesh_messages_max;
        self.presence.enabled = running.presence.enabled;
        self.presence.root.clone_from(&running.presence.root);
        self.presence.retain = running.presence.retain;
        self.admin = running.admin.clone();
    }
}

/// What is other in `new` than in `old`: changed keys and new items in the order of `new`, then the items that are gone.
///
/// Listeners are compared with those at the same place, authenticators with those of the same name, whatever their order.
pub fn difference(old: &Config, new: &Config) -> Vec<Change> {
    let lists = [
        Pairs::new("listeners", &places(old), &places(new)),
        Pairs::new("authenticators", &names(old), &names(new)),
        Pairs::new("identities", &numbers(old.identities.len()), &numbers(new.identities.len())),
    ];
    let olds = entries(old);
    let before: HashMap<_, _> = olds.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect();
    let mut changes = Vec::new();
    let mut told = None;
    for Entry { key, value, .. } in entries(new) {
        let old_key = match lists.iter().find_map(|list| list.old_key(&key)) {
            None => key.clone(),
            Some(Origin::Kept(old_key)) => old_key,
            Some(Origin::New(item)) => {
                if told.as_ref() != Some(&item) {
                    changes.push(of_item(new, &item, false));
                    told = Some(item);
                }
                continue;
            }
        };
        let old_value = before.get(old_key.as_str()).copied().cloned().flatten();
        if old_value != value {
            let [old, new] = [old_value, value].map(|value| value.map(|value| masked(&key, value)));
            changes.push(Change { needs_restart: needs_restart(&key), old, new, key });
        }
    }
    changes.extend(lists.iter().flat_map(Pairs::gone).map(|item| of_item(old, &item, true)));
    changes
}

/// For each item of `new`, which of `old` it is; each of them is one item at most.
pub fn pair<K: Eq + Hash>(old: &[K], new: &[K]) -> Vec<Option<usize>> {
    let mut places: HashMap<&K, VecDeque<usize>> = HashMap::new();
    for (index, key) in old.iter().enumerate() {
        places.entry(key).or_default().push_back(index);
    }
    new.iter().map(|key| places.get_mut(key)?.pop_front()).collect()
}

fn places(config: &Config) -> Vec<super::ListenerPlace<'_>> {
    config.listeners.iter().map(Listener::place).collect()
}

fn names(config: &Config) -> Vec<&str> {
    config.authenticators.iter().map(|authenticator| authenticator.name.as_str()).collect()
}

fn numbers(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// Which items of a list are the same before and after.
struct Pairs {
    list: &'static str,
    /// By the place of an item in the new list.
    old_of_new: Vec<Option<usize>>,
    old_len: usize,
}

/// Where a key of an item comes from.
enum Origin {
    /// The item was there before, and the key had this path.
    Kept(String),
    /// The item with this path is new.
    New(String),
}

impl Pairs {
    fn new<K: Eq + Hash>(list: &'static str, old: &[K], new: &[K]) -> Self {
        Self { list, old_of_new: pair(old, new), old_len: old.len() }
    }

    /// Where `key` comes from, if it is one of this list.
    fn old_key(&self, key: &str) -> Option<Origin> {
        let (index, rest) = key.strip_prefix(self.list)?.strip_prefix('.')?.split_once('.')?;
        let index: usize = index.parse().ok()?;
        Some(match self.old_of_new.get(index)? {
            Some(old) => Origin::Kept(format!("{}.{old}.{rest}", self.list)),
            None => Origin::New(format!("{}.{index}", self.list)),
        })
    }

    /// The paths of the old items that are no more.
    fn gone(&self) -> impl Iterator<Item = String> {
        let is_gone = |index: &usize| !self.old_of_new.contains(&Some(*index));
        (0..self.old_len).filter(is_gone).map(|index| format!("{}.{index}", self.list))
    }
}

/// A key of a configuration as it stands.
struct Entry {
    /// With the numbers of items.
    key: String,
    /// Without them.
    in_file: String,
    value: Option<String>,
}

fn entries(config: &Config) -> Vec<Entry> {
    let mut lengths: HashMap<String, usize> = HashMap::new();
    let mut entries = Vec::new();
    for Group { place, keys, .. } in config.groups().into_iter().filter(|group| !group.is_example) {
        let index = place.list.as_ref().map_or(0, |list| {
            let length = lengths.entry(list.clone()).or_default();
            *length += usize::from(place.is_item());
            *length - 1 // A table within an item comes behind it.
        });
        let entry = |Key { name, value, .. }| Entry { key: place.key_of(index, name), in_file: place.key(name), value };
        entries.extend(keys.into_iter().map(entry));
    }
    entries
}

/// The change that an item has come or is gone: what it says beyond the defaults.
fn of_item(config: &Config, item: &str, is_gone: bool) -> Change {
    let within = format!("{item}.");
    let of_item = |setting: &Setting| setting.key.starts_with(&within);
    let settings = config.settings().into_iter().filter(of_item);
    let said: Vec<_> = settings
        .filter_map(|Setting { key, value, default, .. }| {
            let name = &key[within.len()..];
            let is_said = value != default || NAMING.contains(&name);
            is_said.then(|| format!("{name} = {}", value.unwrap_or_default()))
        })
        .collect();
    let text = Some(format!("{{ {} }}", said.join(", ")));
    let (old, new) = if is_gone { (text, None) } else { (None, text) };
    Change { key: item.to_owned(), old, new, needs_restart: false }
}

/// Keys that tell one item from another, and are worth saying where they have their defaults.
const NAMING: [&str; 2] = ["kind", "address"];

/// A value without what is secret: the credentials in an address. Everything else that is secret stands in files of its own.
fn masked(key: &str, value: String) -> String {
    let is_url = key.starts_with("authenticators.") && key.ends_with(".url");
    let Some(begin) = value.find("://").filter(|_| is_url).map(|at| at + 3) else { return value };
    let authority = value[begin..].find(['/', '?', '#']).map_or(value.len(), |length| begin + length);
    let mut masked = match value[begin..authority].rfind('@') {
        Some(at) => format!("{}***{}", &value[..begin], &value[begin + at..]),
        None => value,
    };
    // A query may hold a key of the service. What is left ends as a text in TOML does.
    if let Some(query) = masked.find(['?', '#']) {
        masked.replace_range(query + 1.., "***\"");
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::super::{Authenticator, AuthenticatorKind, File, Identities, ListenerKind, Sources};
    use super::*;

    fn from(text: &str) -> Config {
        let file = Some(File { name: "test.toml", text });
        Config::load(Sources { file, ..Sources::default() }).unwrap()
    }

    fn change(key: &str, old: Option<&str>, new: Option<&str>) -> Change {
        let [old, new] = [old, new].map(|value| value.map(str::to_owned));
        Change { key: key.to_owned(), old, new, needs_restart: false }
    }

    /// A configuration in which no key outside of lists has its default, and none is unset that can be set.
    fn far_from_the_defaults() -> Config {
        let others = Config::default().settings().into_iter().filter(|setting| !setting.key.contains(".0."));
        let mut flags = Vec::new();
        for Setting { key, value, .. } in others {
            // Whatever kind a key is of, one of these is a value of it, and another one than it has.
            let candidates = [
                "7",
                "true",
                "false",
                "7s",
                "2h",
                "3MiB",
                "70MiB",
                "other",
                "json",
                "file",
                "relaxed",
                "publish",
                "oldest",
                "disconnect",
                "mosquitto",
                "0",
                "1",
                "99",
                "500ms",
                "2GiB",
                "[::1]:9",
                "a/#",
                "10.0.0.0/8",
                "128KiB",
                "1KiB",
            ];
            let differs = |candidate: &&&str| {
                let flags = vec![(key.clone(), (**candidate).to_owned())];
                let read = Config::read(Sources { flags, ..Sources::default() });
                read.is_ok_and(|(config, _)| config.settings().iter().any(|it| it.key == key && it.value != value))
            };
            let other = candidates.iter().find(differs).unwrap_or_else(|| panic!("{key} takes none of these"));
            flags.push((key, (*other).to_owned()));
        }
        Config::read(Sources { flags, ..Sources::default() }).unwrap().0
    }

    #[test]
    fn equal_settings_do_not_differ() {
        assert_eq!(difference(&Config::default(), &Config::default()), []);
        let config = far_from_the_defaults();
        assert_eq!(difference(&config, &config.clone()), []);
    }

    #[test]
    fn a_change_tells_the_key_and_both_values() {
        let old = from("shards = 2\n[limits]\npacket_bytes_max = \"64KiB\"\n");
        let new = from("[limits]\npacket_bytes_max = \"1KiB\"\npublish_rate_max = 5\n");
        let shards = Change { needs_restart: true, ..change("shards", Some("2"), None) };
        let packet = change("limits.packet_bytes_max", Some("\"64KiB\""), Some("\"1KiB\""));
        assert_eq!(difference(&old, &new), [shards, packet, change("limits.publish_rate_max", None, Some("5"))]);
    }

    #[test]
    fn listeners_are_told_apart_by_their_places_whatever_their_order() {
        let old =
            from("[[listeners]]\naddress = \"127.0.0.1:1\"\n[[listeners]]\naddress = \"127.0.0.1:2\"\nbacklog = 7\n");
        let new = from(
            "[[listeners]]\naddress = \"127.0.0.1:2\"\nbacklog = 8\n[listeners.limits]\ninflight_max = 3\n\
             [[listeners]]\nkind = \"unix\"\npath = \"/run/w\"\nanonymous = true\n",
        );
        let differences = difference(&old, &new);
        let expected = [
            change("listeners.0.backlog", Some("7"), Some("8")),
            change("listeners.0.limits.inflight_max", None, Some("3")),
        ];
        assert_eq!(differences[..2], expected);
        assert_eq!(differences[2].key, "listeners.1");
        assert!(differences[2].new.as_deref().is_some_and(|new| new.contains("path = \"/run/w\"")), "{differences:?}");
        assert_eq!(differences[3], change("listeners.0", Some("{ kind = \"tcp\", address = \"127.0.0.1:1\" }"), None));
        assert_eq!(differences.len(), 4);
    }

    #[test]
    fn an_item_is_the_same_as_one_other_item_at_most() {
        assert_eq!(pair(&['a', 'b', 'a'], &['a', 'a', 'a', 'c', 'b']), [Some(0), Some(2), None, None, Some(1)]);
    }

    #[test]
    fn authenticators_go_by_their_names_and_identities_by_their_places() {
        let authenticator = |name: &str, failures_max| Authenticator {
            name: name.into(),
            kind: AuthenticatorKind::Peer,
            failures_max,
            ..Authenticator::default()
        };
        let mut old =
            Config { authenticators: vec![authenticator("a", 5), authenticator("b", 5)], ..Config::default() };
        let mut new = Config { authenticators: vec![authenticator("b", 6)], ..Config::default() };
        old.identities = vec![Identities { users: vec!["x".into()], ..Identities::default() }];
        new.identities = vec![Identities { users: vec!["y".into()], ..Identities::default() }];
        let gone = Some("{ name = \"a\", kind = \"peer\" }");
        let expected = [
            change("authenticators.0.failures_max", Some("5"), Some("6")),
            change("identities.0.users", Some("[\"x\"]"), Some("[\"y\"]")),
            change("authenticators.0", gone, None),
        ];
        assert_eq!(difference(&old, &new), expected);
    }

    #[test]
    fn credentials_in_an_address_are_not_told() {
        let with = |url: &str| {
            let http = Authenticator {
                name: "h".into(),
                kind: AuthenticatorKind::Http,
                url: Some(url.into()),
                ..Authenticator::default()
            };
            Config { authenticators: vec![http], ..Config::default() }
        };
        let changes = difference(&with("http://u:old@h/a@b"), &with("http://u:new@h/a@b"));
        let url = Some("\"http://***@h/a@b\"");
        assert_eq!(changes, [change("authenticators.0.url", url, url)], "that it changed is told");
        assert!(!format!("{:?}", difference(&Config::default(), &with("http://u:new@h"))).contains("new@"));
        assert!(with("http://h/a@b").settings().iter().any(|it| it.value.as_deref() == Some("\"http://h/a@b\"")));
    }

    #[test]
    fn every_key_that_needs_a_restart_exists() {
        let keys: Vec<_> = Config::default().settings().into_iter().map(|setting| setting.key).collect();
        for prefix in RESTART {
            assert!(keys.iter().any(|key| key == prefix || key.starts_with(&format!("{prefix}."))), "{prefix}");
        }
    }

    #[test]
    fn the_same_section_may_have_keys_that_wait_and_others_that_do_not() {
        for (waits, does_not) in [
            ("presence.root", "presence.qos"),
            ("log.file", "log.level"),
            ("wills.share", "wills.slice"),
            ("limits.mesh_messages_max", "limits.packet_bytes_max"),
        ] {
            assert!(needs_restart(waits) && !needs_restart(does_not), "{waits}, {does_not}");
        }
        let asked = from("[presence]\nqos = 1\nroot = \"elsewhere\"\n");
        let mut kept = asked.clone();
        kept.keep_until_restart(&Config::default());
        assert_eq!((kept.presence.qos, &kept.presence.root), (1, &Config::default().presence.root));
    }

    #[test]
    fn what_needs_a_restart_stays_and_all_else_changes() {
        let (running, asked) = (Config::default(), far_from_the_defaults());
        let mut kept = asked.clone();
        kept.keep_until_restart(&running);
        assert!(difference(&running, &kept).iter().all(|change| !change.needs_restart));
        assert!(difference(&asked, &kept).iter().all(|change| change.needs_restart));
        assert!(!difference(&asked, &kept).is_empty());
    }

    #[test]
    fn the_keys_of_a_unix_listener_have_its_number() {
        let mut config = Config::default();
        config.listeners.push(Listener { kind: ListenerKind::Unix, path: Some("/a".into()), ..Listener::default() });
        config.listeners[1].limits.keep_alive_max = Some(9);
        let settings = config.settings();
        let value = |key: &str| settings.iter().find(|it| it.key == key).and_then(|it| it.value.clone());
        assert_eq!(value("listeners.1.path").as_deref(), Some("\"/a\""));
        assert_eq!(value("listeners.1.limits.keep_alive_max").as_deref(), Some("9"));
        assert_eq!(value("listeners.0.limits.keep_alive_max"), None);
        assert!(!settings.iter().any(|it| it.key.starts_with("identities")), "there are none");
    }
}
