use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const START: Moment = Moment::from_micros(1_700_000_000_000_000);
const NO_LIMITS: SourceLimits = SourceLimits {
    connections_max: None,
    connection_rate_max: None,
    failures_max: 0,
    failure_window: Duration::from_secs(60),
    ban_time: Duration::from_secs(300),
};

fn source(address: &str) -> Source {
    Source::of(address.parse().unwrap())
}

fn later(seconds: u64) -> Moment {
    START + Duration::from_secs(seconds)
}

impl Sources {
    fn records(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap().records.len()).sum()
    }

    fn counted(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap().connections.len()).sum()
    }
}

#[test]
fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
    for (one, other, is_same) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("2001:db8::1", "2001:db8::ffff:1", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("127.0.0.1", "::1", false),
    ] {
        assert_eq!(source(one) == source(other), is_same, "{one} and {other}");
    }
}

#[test]
fn a_source_reads_as_people_write_it() {
    for (address, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::1"),
    ] {
        assert_eq!(source(address).to_string(), expected);
    }
}

#[test]
fn failures_within_the_window_ban_and_the_ban_ends() {
    let sources = Sources::new(SourceLimits { failures_max: 3, ..NO_LIMITS });
    let (bad, good) = (source("192.0.2.1"), source("192.0.2.2"));
    assert!(!sources.note_failure(bad, later(0)));
    assert!(!sources.note_failure(bad, later(59)));
    // The first one does not count any more.
    assert!(!sources.note_failure(bad, later(60)));
    assert!(!sources.note_failure(bad, later(61)));
    assert!(sources.note_failure(bad, later(62)));
    assert_eq!(sources.enter(bad, later(62)), Err(Objection::Banned));
    assert_eq!(sources.enter(good, later(62)).map(drop), Ok(()));
    // On a connection from before: the ban ends when it was said to.
    assert!(!sources.note_failure(bad, later(300)));
    assert!(sources.is_banned(bad, later(361)));
    assert!(!sources.is_banned(bad, later(362)));
    assert!(!sources.note_failure(bad, later(362)), "it begins anew");
}

#[test]
fn whoever_has_many_addresses_does_not_make_us_grow() {
    let limits = SourceLimits { failures_max: 2, connection_rate_max: Some(1), ..NO_LIMITS };
    let sources = Sources::new(limits);
    let banned = source("192.0.2.1");
    assert!(!sources.note_failure(banned, START));
    assert!(sources.note_failure(banned, START));
    for network in 1..4 * (PARTS * RECORDS_MAX) as u128 {
        let address = Ipv6Addr::from((0x2001_0db8 << 96) | (network << 64));
        let now = START + Duration::from_millis(network as u64 / 10_000);
        sources.note_failure(Source::of(address.into()), now);
        assert_eq!(sources.enter(Source::of(address.into()), now).map(drop), Ok(()));
    }
    assert!(sources.records() <= PARTS * RECORDS_MAX);
    assert!(sources.is_banned(banned, later(200)), "those that are banned are forgotten last");
}

#[test]
fn those_that_say_nothing_any_more_are_forgotten_first() {
    let sources = Sources::new(SourceLimits { failures_max: 2, ..NO_LIMITS });
    let mut part = Part::default();
    let addresses: Vec<_> =
        (0..RECORDS_MAX as u32 + 1).map(|address| Source::of(Ipv4Addr::from(address).into())).collect();
    let (stale, fresh) = addresses.split_at(FORGOTTEN_AT_ONCE);
    for (sources_then, then) in [(stale, later(0)), (fresh, later(59))] {
        for &source in sources_then {
            let now = if source == *addresses.last().unwrap() { later(60) } else { then };
            part.record(source, now, &sources.limits()).failures = 1;
        }
    }
    assert_eq!(part.records.len(), fresh.len());
    assert!(fresh.iter().all(|source| part.records.contains_key(source)));
}

#[test]
fn there_are_no_more_counts_than_connections() {
    let sources = Sources::new(SourceLimits { connections_max: Some(2), ..NO_LIMITS });
    let addresses: Vec<_> = (0..1000_u32).map(|address| Source::of(Ipv4Addr::from(address).into())).collect();
    addresses.iter().for_each(|&source| assert!(sources.enter(source, START).unwrap()));
    assert_eq!((sources.counted(), sources.records()), (1000, 0));
    addresses.iter().for_each(|&source| sources.leave(source));
    assert_eq!(sources.counted(), 0);
}

/// What may happen at one address.
#[derive(Debug, Clone, Copy)]
enum Step {
    Enter,
    EnterBriefly,
    Leave,
    Fail,
}

/// An address as the settings describe it, with all that ever happened.
#[derive(Default)]
struct Model {
    connections: u32,
    taken: Vec<Moment>,
    failures: Vec<Moment>,
    banned_until: Option<Moment>,
}

impl Model {
    fn is_banned(&self, now: Moment) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }

    fn has_token(&self, rate: u32, now: Moment) -> bool {
        (0..self.taken.len()).all(|first| {
            let flowed = now.duration_since(self.taken[first]).as_micros() * u128::from(rate);
            (self.taken.len() - first + 1) as u128 * 1_000_000 <= u128::from(rate) * 1_000_000 + flowed
        })
    }

    fn enter(&mut self, limits: &SourceLimits, now: Moment, takes_token: bool) -> Result<(), Objection> {
        if self.is_banned(now) {
            return Err(Objection::Banned);
        }
        if limits.connections_max.is_some_and(|max| self.connections >= max) {
            return Err(Objection::TooMany);
        }
        if limits.connection_rate_max.is_some_and(|rate| !self.has_token(rate, now)) {
            return Err(Objection::TooFast);
        }
        if takes_token {
            self.taken.push(now);
        }
        self.connections += 1;
        Ok(())
    }

    fn fail(&mut self, limits: &SourceLimits, now: Moment) -> bool {
        if limits.failures_max == 0 || self.is_banned(now) {
            return false;
        }
        if self.failures.first().is_some_and(|&first| now.duration_since(first) >= limits.failure_window) {
            self.failures.clear();
        }
        self.failures.push(now);
        let is_ban = self.failures.len() as u32 >= limits.failures_max;
        if is_ban {
            self.failures.clear();
            self.banned_until = Some(now + limits.ban_time);
        }
        is_ban
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![Just(Step::Enter), Just(Step::EnterBriefly), Just(Step::Leave), Just(Step::Fail)]
}

fn limits() -> impl Strategy<Value = SourceLimits> {
    let numbers = (proptest::option::of(1_u32..4), proptest::option::of(1_u32..4), 0_u32..4);
    (numbers, 1_u64..5, 1_u64..5).prop_map(|((connections_max, connection_rate_max, failures_max), window, ban)| {
        SourceLimits {
            connections_max,
            connection_rate_max,
            failures_max,
            failure_window: Duration::from_secs(window),
            ban_time: Duration::from_secs(ban),
        }
    })
}

proptest! {
    #[test]
    fn sources_do_what_the_settings_say(
        limits in limits(),
        steps in vec((0_u8..3, step(), 0_u64..1_500_000), 1..120),
    ) {
        let sources = Sources::new(limits);
        let mut models: HashMap<u8, Model> = HashMap::new();
        let mut now = START;
        for (number, step, gap) in steps {
            now += Duration::from_micros(gap);
            let source = Source::of(Ipv4Addr::new(192, 0, 2, number).into());
            let model = models.entry(number).or_default();
            match step {
                Step::Enter => prop_assert_eq!(sources.enter(source, now).map(drop), model.enter(&limits, now, true)),
                Step::EnterBriefly => {
                    prop_assert_eq!(sources.enter_briefly(source, now).map(drop), model.enter(&limits, now, false));
                }
                Step::Leave if model.connections > 0 => {
                    model.connections -= 1;
                    sources.leave(source);
                }
                Step::Leave => {}
                Step::Fail => prop_assert_eq!(sources.note_failure(source, now), model.fail(&limits, now)),
            }
            prop_assert_eq!(sources.is_banned(source, now), model.is_banned(now));
        }
    }
}
