//! Histories with one fault each, and what the checker says to them.

use super::{Audience, Checker, Fault, Grace};
use crate::history::{Connecting, Did, Event, Payload, Publishing, Receiving, Stamp, Who, Will};
use std::time::Duration;

const PUBLISHER: Who = 1;
const WATCHER: Who = 2;
const DEVICE: Who = 3;
const INSPECTOR: Who = 4;

/// A history with its moments in milliseconds; the broker listens from the beginning, and the grace is a second.
struct History {
    checker: Checker,
    at: u64,
    packet_id: u16,
}

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn message(number: u64) -> Stamp {
    Stamp::message(PUBLISHER, number)
}

fn will(number: u64) -> Stamp {
    Stamp::will(DEVICE, number)
}

impl History {
    /// The publisher is there, and the watcher has subscribed to everything with QoS 2.
    fn new() -> Self {
        let mut history = Self { checker: Checker::new(Grace::Of(millis(1000))), at: 0, packet_id: 0 };
        history.broker(Event::Started).broker(Event::Listening);
        history.comes(PUBLISHER, false).comes(WATCHER, false).subscribes(WATCHER);
        history
    }

    fn broker(&mut self, event: Event) -> &mut Self {
        self.checker.observe(millis(self.at), &event);
        self
    }

    fn did(&mut self, who: Who, did: Did) -> &mut Self {
        self.broker(Event::Client(who, did))
    }

    fn at(&mut self, milliseconds: u64) -> &mut Self {
        assert!(milliseconds >= self.at, "time does not go back");
        self.at = milliseconds;
        self
    }

    fn asks(&mut self, who: Who, clean_start: bool, will: Option<Will>) -> &mut Self {
        let (expiry, keep_alive) = (millis(3_600_000), Duration::ZERO);
        self.did(who, Did::Connect(Connecting { clean_start, expiry, keep_alive, will }))
    }

    fn comes(&mut self, who: Who, session_present: bool) -> &mut Self {
        self.asks(who, false, None).did(who, Did::Connack { session_present })
    }

    fn subscribes(&mut self, who: Who) -> &mut Self {
        let filter = "#".to_owned();
        self.did(who, Did::Subscribe { filter: filter.clone(), qos: 2 }).did(who, Did::Suback { filter, reason: 2 })
    }

    /// A device connects with its will of this number.
    fn device(&mut self, number: u64, clean_start: bool, session_present: bool, delay: u64) -> &mut Self {
        let will = Will { number, topic: "t".to_owned(), qos: 2, retain: true, delay: millis(delay) };
        self.asks(DEVICE, clean_start, Some(will)).did(DEVICE, Did::Connack { session_present })
    }

    fn publish(&mut self, number: u64, qos: u8) -> &mut Self {
        let (topic, retain, empty) = ("t".to_owned(), false, false);
        self.did(PUBLISHER, Did::Publish(Publishing { number, topic, qos, retain, empty }))
    }

    fn retain(&mut self, number: u64, empty: bool) -> &mut Self {
        let topic = "r".to_owned();
        self.did(PUBLISHER, Did::Publish(Publishing { number, topic, qos: 1, retain: true, empty }))
    }

    fn acknowledged(&mut self, number: u64) -> &mut Self {
        self.did(PUBLISHER, Did::Acknowledged { number, reason: 0 })
    }

    /// A delivery with a Packet Identifier of its own, up to PUBREL.
    fn receive(&mut self, stamp: Stamp) -> &mut Self {
        self.packet_id += 1;
        let packet_id = self.packet_id;
        self.receive_as(stamp, packet_id).did(WATCHER, Did::Release { packet_id })
    }

    fn receive_as(&mut self, stamp: Stamp, packet_id: u16) -> &mut Self {
        let payload = Payload::Stamp(stamp);
        let topic = "t".to_owned();
        self.did(WATCHER, Did::Receive(Receiving { packet_id, qos: 2, dup: false, retain: false, topic, payload }))
    }

    /// A new subscriber looks at the retained messages and sees version `number`.
    fn look(&mut self, number: Option<u64>, settled: bool) -> &mut Self {
        self.asks(INSPECTOR, true, None).did(INSPECTOR, Did::Connack { session_present: false });
        let filter = "r".to_owned();
        self.did(INSPECTOR, Did::Subscribe { filter: filter.clone(), qos: 0 });
        self.did(INSPECTOR, Did::Suback { filter: filter.clone(), reason: 0 });
        if let Some(number) = number {
            let (topic, payload) = (filter, Payload::Stamp(message(number)));
            let receiving = Receiving { packet_id: 0, qos: 0, dup: false, retain: true, topic, payload };
            self.did(INSPECTOR, Did::Receive(receiving));
        }
        self.did(INSPECTOR, Did::Looked { settled })
    }

    /// The broker is killed, started, and listens 100 ms later; the watcher is back.
    fn restart(&mut self) -> &mut Self {
        self.broker(Event::Killed);
        for who in [PUBLISHER, WATCHER] {
            self.did(who, Did::Closed);
        }
        self.broker(Event::Started).broker(Event::Refused);
        let at = self.at;
        self.at(at + 100).broker(Event::Listening).comes(WATCHER, true).comes(PUBLISHER, true)
    }

    fn faults(&mut self) -> Vec<Fault> {
        let checker = std::mem::replace(&mut self.checker, Checker::new(Grace::KeepAlive));
        checker.finish(millis(self.at)).into_iter().map(|complaint| complaint.fault).collect()
    }
}

fn watcher() -> Audience {
    Audience::Client(WATCHER)
}

#[test]
fn a_right_history_has_no_complaint() {
    let faults = History::new().publish(1, 2).acknowledged(1).restart().receive(message(1)).faults();
    assert_eq!(faults, []);
}

#[test]
fn an_acknowledged_message_is_lost() {
    for qos in [1, 2] {
        let faults = History::new().publish(1, qos).acknowledged(1).restart().faults();
        assert_eq!(faults, [Fault::Lost { audience: watcher(), stamp: message(1) }]);
    }
}

#[test]
fn without_an_acknowledgement_nothing_is_owed() {
    assert_eq!(History::new().publish(1, 1).restart().faults(), []);
}

#[test]
fn a_message_of_qos_2_is_doubled() {
    let faults =
        History::new().publish(1, 2).acknowledged(1).receive(message(1)).restart().receive(message(1)).faults();
    assert_eq!(faults, [Fault::Doubled { audience: watcher(), stamp: message(1) }]);
}

#[test]
fn qos_1_may_come_twice_and_qos_2_again_before_its_pubrel() {
    let faults = History::new().publish(1, 1).receive(message(1)).receive(message(1)).faults();
    assert_eq!(faults, []);
    let faults = History::new().publish(1, 2).receive_as(message(1), 9).restart().receive_as(message(1), 9).faults();
    assert_eq!(faults, []);
}

#[test]
fn a_packet_identifier_stands_for_another_message_before_its_pubrel() {
    let faults =
        History::new().publish(1, 2).publish(2, 2).receive_as(message(1), 9).receive_as(message(2), 9).faults();
    assert_eq!(faults, [Fault::PacketIdInUse { client: WATCHER, packet_id: 9, stamp: message(2) }]);
}

#[test]
fn messages_of_one_topic_change_places() {
    let faults = History::new().publish(1, 1).publish(2, 1).receive(message(2)).receive(message(1)).faults();
    assert_eq!(faults, [Fault::OutOfOrder { client: WATCHER, stamp: message(1), after: 2 }]);
}

#[test]
fn a_session_is_lost_with_its_subscription() {
    let mut history = History::new();
    history.broker(Event::Killed).broker(Event::Started).broker(Event::Listening);
    let faults = history.comes(WATCHER, false).faults();
    assert_eq!(faults, [Fault::SessionPresent { client: WATCHER, said: false }]);
}

#[test]
fn a_message_follows_unsuback() {
    let (mut history, filter) = (History::new(), "#".to_owned());
    history.did(WATCHER, Did::Unsubscribe { filter: filter.clone() }).did(WATCHER, Did::Unsuback { filter });
    let faults = history.publish(1, 1).restart().receive(message(1)).faults();
    assert_eq!(faults, [Fault::Uninvited { client: WATCHER, stamp: message(1) }]);
}

#[test]
fn a_broker_that_lives_ends_a_connection() {
    let faults = History::new().did(PUBLISHER, Did::Closed).faults();
    assert_eq!(faults, [Fault::Closed { client: PUBLISHER }]);
}

/// The watcher gets everything that is retained here.
fn kept() -> History {
    let mut history = History::new();
    history.retain(1, false).acknowledged(1).retain(2, false).acknowledged(2);
    history.checker.messages.forgive(Some(0)); // What the watcher is owed is not the subject.
    history
}

#[test]
fn a_retained_message_is_the_last_acknowledged_one_or_a_later_one() {
    assert_eq!(kept().restart().look(Some(2), true).faults(), []);
    assert_eq!(kept().retain(3, false).restart().look(Some(3), true).faults(), []);
    assert_eq!(kept().retain(3, true).restart().look(None, true).faults(), []);
    assert_eq!(kept().retain(3, true).restart().look(Some(2), true).faults(), []);
}

#[test]
fn a_retained_message_goes_back() {
    let topic = "r".to_owned();
    let faults = kept().restart().look(Some(1), true).faults();
    assert_eq!(faults, [Fault::RetainedWentBack { topic, number: 1, acknowledged: 2 }]);
}

#[test]
fn a_retained_message_is_lost_and_a_removed_one_returns() {
    let topic = "r".to_owned();
    let faults = kept().restart().look(None, false).faults();
    assert_eq!(faults, [Fault::RetainedLost { topic: topic.clone(), acknowledged: 2 }]);
    let faults = kept().retain(3, true).acknowledged(3).restart().look(Some(2), false).faults();
    assert_eq!(faults, [Fault::RetainedWentBack { topic, number: 2, acknowledged: 3 }]);
}

#[test]
fn an_armed_will_is_published_after_the_grace() {
    let faults = History::new().device(1, true, false, 0).at(500).restart().at(1600).receive(will(1)).faults();
    assert_eq!(faults, []);
}

#[test]
fn a_will_is_lost() {
    let faults = History::new().device(1, true, false, 0).restart().at(5000).faults();
    assert_eq!(faults, [Fault::WillLost { watcher: watcher(), stamp: will(1) }]);
    let faults = History::new().device(1, true, false, 0).did(DEVICE, Did::Cut).at(5000).faults();
    assert_eq!(faults, [Fault::WillLost { watcher: watcher(), stamp: will(1) }]);
}

#[test]
fn a_will_is_doubled() {
    let mut history = History::new();
    history.device(1, true, false, 0).did(DEVICE, Did::Cut).receive(will(1));
    let faults = history.at(5000).restart().at(7000).receive(will(1)).faults();
    assert_eq!(faults, [Fault::WillDoubled { watcher: watcher(), stamp: will(1) }]);
}

#[test]
fn a_will_is_early() {
    let early = |milliseconds| Fault::WillEarly { stamp: will(1), early: Some(millis(milliseconds)) };
    let faults = History::new().device(1, true, false, 0).at(500).restart().at(1200).receive(will(1)).faults();
    assert_eq!(faults, [early(300)], "before the end of the grace");
    let faults = History::new().device(1, true, false, 2000).did(DEVICE, Did::Cut).at(1200).receive(will(1)).faults();
    assert_eq!(faults, [early(800)], "before the end of the delay");
    let mut history = History::new();
    history.device(1, true, false, 5000).did(DEVICE, Did::Cut).at(500).restart();
    assert_eq!(history.at(2000).receive(will(1)).faults(), [early(3000)], "the delay goes on over a restart");
    let faults = History::new().device(1, true, false, 0).receive(will(1)).faults();
    assert_eq!(faults, [Fault::WillEarly { stamp: will(1), early: None }], "its client is connected");
}

#[test]
fn a_discarded_will_is_published() {
    let after_all = [Fault::WillAfterAll { stamp: will(1) }];
    let mut history = History::new();
    history.device(1, true, false, 0).restart().device(2, false, true, 0);
    assert_eq!(history.at(3000).receive(will(1)).faults(), after_all, "its client came back within the grace");
    let mut history = History::new();
    history.device(1, true, false, 0).did(DEVICE, Did::Disconnect { with_will: false }).did(DEVICE, Did::Closed);
    assert_eq!(history.at(3000).restart().at(6000).receive(will(1)).faults(), after_all, "after DISCONNECT");
}

#[test]
fn after_a_disconnect_at_the_moment_of_the_kill_either_is_right() {
    let mut history = History::new();
    history.device(1, true, false, 0).did(DEVICE, Did::Disconnect { with_will: false }).restart();
    assert_eq!(history.at(3000).faults(), []);
    let mut history = History::new();
    history.device(1, true, false, 0).did(DEVICE, Did::Disconnect { with_will: false }).restart();
    assert_eq!(history.at(3000).receive(will(1)).faults(), []);
}

#[test]
fn a_will_is_armed_by_a_connack_that_is_read_after_the_kill_and_perhaps_without_one() {
    let offered = || {
        let mut history = History::new();
        let will = Will { number: 1, topic: "t".to_owned(), qos: 2, retain: false, delay: Duration::ZERO };
        history.asks(DEVICE, true, Some(will)).broker(Event::Killed);
        history
    };
    let end = |history: &mut History| history.did(DEVICE, Did::Closed).broker(Event::Started).at(9000).faults();
    assert_eq!(end(&mut offered()), []);
    let faults = end(offered().did(DEVICE, Did::Connack { session_present: false }));
    assert_eq!(faults, [Fault::WillLost { watcher: watcher(), stamp: will(1) }]);
}

#[test]
fn a_will_of_qos_0_may_end_with_a_kill_that_finds_it_on_its_way_and_not_otherwise() {
    let armed = || {
        let mut history = History::new();
        let will = Will { number: 1, topic: "t".to_owned(), qos: 0, retain: false, delay: Duration::ZERO };
        history.asks(DEVICE, true, Some(will)).did(DEVICE, Did::Connack { session_present: false });
        history.at(10);
        history
    };
    assert_eq!(armed().did(DEVICE, Did::Cut).restart().at(9000).faults(), []);
    let lost = [Fault::WillLost { watcher: watcher(), stamp: will(1) }];
    assert_eq!(armed().did(DEVICE, Did::Cut).at(9000).faults(), lost);
    assert_eq!(armed().restart().at(9000).faults(), lost);
}

#[test]
fn a_client_that_comes_back_with_clean_start_ends_the_old_session_and_publishes_its_will() {
    let mut history = History::new();
    history.device(1, true, false, 60_000).restart().device(2, true, false, 0);
    assert_eq!(history.receive(will(1)).faults(), []);
    let mut history = History::new();
    history.device(1, true, false, 60_000).restart().device(2, true, false, 0);
    assert_eq!(history.at(90_000).faults(), [Fault::WillLost { watcher: watcher(), stamp: will(1) }]);
}

#[test]
fn a_client_that_comes_back_after_its_will_was_due_does_not_take_it_back() {
    let mut history = History::new();
    history.device(1, true, false, 0).restart().at(5000).device(2, false, true, 0);
    assert_eq!(history.at(9000).faults(), [Fault::WillLost { watcher: watcher(), stamp: will(1) }]);
}

#[test]
fn a_will_that_one_watcher_has_seen_must_reach_the_other() {
    let mut history = History::new();
    history
        .comes(INSPECTOR, false)
        .subscribes(INSPECTOR)
        .device(1, true, false, 0)
        .did(DEVICE, Did::Cut)
        .receive(will(1));
    let watcher = Audience::Client(INSPECTOR);
    assert_eq!(history.at(9000).faults(), [Fault::WillLost { watcher, stamp: will(1) }]);
}
