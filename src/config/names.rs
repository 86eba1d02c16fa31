//! The names of all settings, and which of them a variable or a flag means.

use super::Config;
use super::suggest::nearest;

/// What every environment variable of ours begins with.
pub(super) const PREFIX: &str = "WILLOWMQ_";

/// The environment variable of a key: `limits.packet_bytes_max` is set by `WILLOWMQ_LIMITS_PACKET_BYTES_MAX`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_uppercase())
}

/// What a setting outside the file sets, in the order in which it has to be set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Key(String),
    /// All items of a list.
    List(String),
    /// A key of one item of a list.
    Item(String, usize, String),
}

/// The names that there are. Within a list they stand without the number of the item: `listeners.address`.
pub(super) struct Names {
    keys: Vec<String>,
    /// Sections, lists among them.
    sections: Vec<String>,
    lists: Vec<String>,
}

impl Names {
    pub(super) fn new() -> Self {
        let (mut keys, mut sections, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        for group in Config::default().groups() {
            if group.place.is_item() {
                lists.push(group.place.path.clone());
            }
            keys.extend(group.keys.iter().map(|key| group.place.key(key.name)));
            sections.extend(Some(group.place.path).filter(|path| !path.is_empty()));
        }
        Self { keys, sections, lists }
    }

    /// Whether the name is that of a section or list, not of a key.
    pub(super) fn is_section(&self, path: &str) -> bool {
        self.sections.iter().any(|section| section == path)
    }

    pub(super) fn is_list(&self, path: &str) -> bool {
        self.lists.iter().any(|list| list == path)
    }

    /// The name without the number of the item: of `listeners.0.address`, `listeners.address`.
    pub(super) fn without_index(&self, path: &str) -> String {
        match self.split_item(path) {
            Some((list, _, key)) => format!("{list}.{key}"),
            None => path.to_owned(),
        }
    }

    /// The target of a flag.
    pub(super) fn target_of_path(&self, path: &str) -> Target {
        match self.split_item(path) {
            _ if self.is_list(path) => Target::List(path.to_owned()),
            Some((list, index, key)) => Target::Item(list.to_owned(), index, key.to_owned()),
            None => Target::Key(path.to_owned()),
        }
    }

    fn split_item<'a>(&self, path: &'a str) -> Option<(&'a str, usize, &'a str)> {
        let (list, rest) = path.split_once('.')?;
        let (index, key) = rest.split_once('.')?;
        Some((list, index.parse().ok()?, key)).filter(|(list, ..)| self.is_list(list))
    }

    /// The target of an environment variable; `None` when there is none with this name.
    pub(super) fn target_of_variable(&self, name: &str) -> Option<Target> {
        if let Some(list) = self.lists.iter().find(|list| variable(list) == name) {
            return Some(Target::List(list.clone()));
        }
        if let Some(path) = self.keys.iter().find(|path| variable(path) == name && self.list_of(path).is_none()) {
            return Some(Target::Key(path.clone()));
        }
        self.lists.iter().find_map(|list| {
            let (index, key) = name.strip_prefix(&variable(list))?.strip_prefix('_')?.split_once('_')?;
            let of_list = |path: &String| Some(path.strip_prefix(list)?.strip_prefix('.')?.to_owned());
            let key = self.keys.iter().filter_map(of_list).find(|path| path.replace('.', "_").to_uppercase() == key)?;
            Some(Target::Item(list.clone(), index.parse().ok()?, key))
        })
    }

    /// The nearest name to one that is not known.
    pub(super) fn nearest_path(&self, path: &str) -> Option<String> {
        let all = self.keys.iter().chain(&self.sections).map(String::as_str);
        let others = all.filter(|&name| name != path);
        nearest(path, others).map(str::to_owned)
    }

    /// The nearest variable to one that is not known. Those of lists are spelled with the number that is asked for.
    pub(super) fn nearest_variable(&self, name: &str) -> Option<String> {
        // What all begin with is no part of what somebody may have misspelled.
        let own = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
        let variables: Vec<_> = self.keys.iter().map(|path| own(&self.variable_like(path, name))).collect();
        nearest(&own(name), variables.iter().map(String::as_str)).map(|nearest| format!("{PREFIX}{nearest}"))
    }

    fn variable_like(&self, path: &str, name: &str) -> String {
        let Some(list) = self.list_of(path) else { return variable(path) };
        let number = name.strip_prefix(&variable(list)).and_then(|rest| rest.split('_').nth(1)?.parse().ok());
        variable(&format!("{list}.{}{}", number.unwrap_or(0_usize), &path[list.len()..]))
    }

    fn list_of(&self, path: &str) -> Option<&str> {
        let is_within = |list: &&String| path.strip_prefix(list.as_str()).is_some_and(|rest| rest.starts_with('.'));
        self.lists.iter().find(is_within).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_the_reference_has_a_target_of_its_own() {
        let names = Names::new();
        let mut targets = Vec::new();
        for group in Config::default().groups() {
            for key in &group.keys {
                let path = group.place.key_of_first(key.name);
                let target = names.target_of_variable(&variable(&path)).expect("a variable of the reference");
                assert_eq!(target, names.target_of_path(&path));
                targets.push(target);
            }
        }
        let count = targets.len();
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), count);
    }
}
