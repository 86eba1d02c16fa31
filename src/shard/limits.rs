//! Which bounds hold for whom.
//!
//! A setting of `[limits]` or `[sessions]` holds for everybody; `[listeners.limits]` overrules it for the clients of a listener, and
//! `[identities.limits]` both for some users. What follows from that is worked out once for each listener and entry of `[[identities]]`.

use crate::config::{Config, Identities};
use crate::session::bounds::Bounds;
use std::collections::HashMap;
use std::sync::Arc;

/// All bounds of a broker, made as they are asked for.
#[derive(Debug)]
pub(super) struct BoundsBook {
    config: Arc<Config>,
    /// By listener, and by entry of `[[identities]]`.
    made: HashMap<(u16, Option<usize>), Arc<Bounds>, ahash::RandomState>,
}

impl BoundsBook {
    pub(super) fn new(config: Arc<Config>, hasher: ahash::RandomState) -> Self {
        Self { config, made: HashMap::with_hasher(hasher) }
    }

    /// The bounds of a client with this User Name on a listener. An index that no listener has, as a journal may hold it after the
    /// settings were changed, is one without bounds of its own.
    pub(super) fn of(&mut self, listener: u16, username: Option<&str>) -> Arc<Bounds> {
        let config = &self.config;
        let entry = username.and_then(|username| identities_of(&config.identities, username));
        let make = || Arc::new(resolve(config, listener, entry));
        Arc::clone(self.made.entry((listener, entry)).or_insert_with(make))
    }
}

fn resolve(config: &Config, listener: u16, entry: Option<usize>) -> Bounds {
    let mut bounds = Bounds::new(config);
    if let Some(listener) = config.listeners.get(usize::from(listener)) {
        bounds = bounds.with(&listener.limits);
    }
    if let Some(entry) = entry {
        bounds = bounds.with(&config.identities[entry].limits);
    }
    bounds
}

/// Largest packet on a listener before it is known who the client is.
pub fn first_packet_bytes_max(config: &Config, listener: u16) -> usize {
    let of_listener = config.listeners.get(usize::from(listener)).and_then(|it| it.limits.packet_bytes_max);
    of_listener.unwrap_or(config.limits.packet_bytes_max)
}

/// The entry of `[[identities]]` that is about a user: the first that fits. An anonymous client has no User Name, and so no entry.
pub fn identities_of(identities: &[Identities], username: &str) -> Option<usize> {
    identities.iter().position(|entry| entry.users.iter().any(|pattern| fits(pattern, username)))
}

/// Whether `pattern`, in which `*` stands for anything, describes the whole of `text`.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientLimits, Listener};

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("lamp", "lamp", true),
            ("lamp", "lamps", false),
            ("*", "", true),
            ("*", "lamp", true),
            ("lamp-*", "lamp-", true),
            ("lamp-*", "lamp", false),
            ("*-lamp", "hall-lamp", true),
            ("*-lamp", "hall-lamp-2", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "x", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn the_first_entry_that_fits_overrules_the_listener_and_that_all_others() {
        let mut config = Config::default();
        config.limits.inflight_max = 10;
        config.limits.topic_levels_max = 10;
        config.limits.keep_alive_max = 10;
        let of_listener =
            ClientLimits { inflight_max: Some(20), topic_levels_max: Some(20), ..ClientLimits::default() };
        config.listeners = vec![Listener::default(), Listener { limits: of_listener, ..Listener::default() }];
        let entry = |pattern: &str, inflight_max| Identities {
            users: vec![pattern.into()],
            limits: ClientLimits { inflight_max: Some(inflight_max), ..ClientLimits::default() },
            ..Identities::default()
        };
        config.identities = vec![entry("lamp-*", 30), entry("lamp-1", 40)];
        let mut book = BoundsBook::new(Arc::new(config), ahash::RandomState::with_seed(1));
        let mut found = |listener, username| {
            let bounds = book.of(listener, username);
            (bounds.inflight_max, bounds.topic_levels_max, bounds.keep_alive_max)
        };
        assert_eq!(found(0, None), (10, 10, 10));
        assert_eq!(found(0, Some("door")), (10, 10, 10));
        assert_eq!(found(1, None), (20, 20, 10));
        assert_eq!(found(1, Some("lamp-1")), (30, 20, 10));
        assert_eq!(found(0, Some("lamp-1")), (30, 10, 10));
        assert_eq!(found(7, None), (10, 10, 10));
        assert!(Arc::ptr_eq(&book.of(1, Some("lamp-1")), &book.of(1, Some("lamp-2"))));
    }
}
