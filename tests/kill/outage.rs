//! A broker with many connected devices is killed, and two fifths of them return in time: the wills of the others are published, each
//! once, and no other will is.

use crate::alone;
use crate::broker::{Settings, number, raise_the_limit_of_open_files};
use crate::checker::Grace;
use crate::load::{crowd, watcher};
use crate::rounds::Rounds;
use std::time::Duration;

#[test]
fn an_outage_publishes_the_wills_of_exactly_those_who_do_not_return() {
    let _alone = alone();
    let devices = u16::try_from(number("WILLOWMQ_KILL_CLIENTS").unwrap_or(2_000)).expect("at most 65535 clients");
    raise_the_limit_of_open_files(u64::from(devices) + 200);
    let grace = Duration::from_secs(5) + Duration::from_millis(3) * u32::from(devices);
    let patience = Duration::from_secs(60);
    let returns = |who: u16| who % 5 < 2;
    let returning = (1..=devices).filter(|who| returns(*who)).count() as u64;

    let settings = Settings { durability: "sync", grace: Grace::Of(grace) };
    let mut rounds = Rounds::with(settings, 1, vec![watcher()]);
    assert!(rounds.drain(patience), "the watcher subscribes");
    rounds.join(crowd(devices, returns));
    assert!(rounds.drain(patience), "all connect");
    rounds.kill();
    assert!(rounds.drain(grace + patience), "wills arrive;\n{}", rounds.outcome());
    rounds.look_when_settled();

    let outcome = rounds.outcome();
    println!("{devices} devices, grace {grace:.1?}\n{outcome}");
    assert!(outcome.complaints.is_empty(), "{}", outcome.story);
    let counts = &outcome.counts;
    assert_eq!(counts.wills_armed, u64::from(devices) + returning);
    assert_eq!(counts.wills_published, u64::from(devices) - returning);
    assert_eq!(counts.wills_discarded, returning);
    assert!(counts.retained_checked > u64::from(devices) / 6, "{}", counts.retained_checked);
}
