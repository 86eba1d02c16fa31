//! Shared Subscriptions: the group lives on one shard, its members anywhere. (§4.8.2)

use crate::wire::message::{hours, message, secs};
use crate::wire::network::{Link, Simulation};
use crate::wire::story::{options, story};
use willowmq::codec::{ReasonCode, SubscriptionOptions};

fn members(sim: &mut Simulation, count: usize, filter: &str) -> Vec<Link> {
    (0..count).map(|n| sim.subscriber(&format!("member-{n}"), filter)).collect()
}

fn all_texts(sim: &Simulation, links: &[Link]) -> Vec<usize> {
    let texts = links.iter().flat_map(|link| sim.used_texts(*link));
    let mut numbers: Vec<_> = texts.map(|text| text.parse().expect("a number")).collect();
    numbers.sort();
    numbers
}

#[test]
fn each_message_goes_to_one_member_and_all_members_get_some() {
    for level in [0, 1, 2] {
        story(|sim| {
            let members = members(sim, 4, "$share/g/t/+");
            let writers: Vec<_> = (0..3).map(|n| sim.connect(&format!("writer-{n}")).accepted()).collect();
            for n in 0..60 {
                sim.post_publish(writers[n % 3], &message("t/x", &n.to_string()).qos(level));
            }
            sim.settle();
            assert_eq!(all_texts(sim, &members), (0..60).collect::<Vec<_>>());
            assert!(members.iter().all(|member| !sim.received(*member).is_empty()));
        });
    }
}

#[test]
fn groups_and_plain_subscribers_are_independent() {
    story(|sim| {
        let first = members(sim, 2, "$share/a/t");
        let second: Vec<_> = (0..2).map(|n| sim.subscriber(&format!("other-{n}"), "$share/b/t")).collect();
        let plain = sim.subscriber("plain", "t");
        let writer = sim.connect("writer").accepted();
        for n in 0..10 {
            sim.publish(writer, &message("t", &n.to_string()).qos(1));
        }
        let expected: Vec<_> = (0..10).collect();
        assert_eq!(all_texts(sim, &first), expected);
        assert_eq!(all_texts(sim, &second), expected);
        assert_eq!(all_texts(sim, &[plain]), expected);
    });
}

#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    story(|sim| {
        let member = sim.connect("member").accepted();
        sim.post_subscribe(member, "$share/g/t", SubscriptionOptions { no_local: true, ..options(1) });
        sim.settle();
        assert_eq!(sim.farewell(member), Some(ReasonCode::ProtocolError));
    });
}

#[test]
fn a_connected_member_is_preferred() {
    story(|sim| {
        let offline = sim.connect("offline").session_expiry(hours(1)).accepted();
        sim.subscribe(offline, "$share/g/t", 1);
        let online = sim.subscriber("online", "$share/g/t");
        sim.cut(offline);
        let writer = sim.connect("writer").accepted();
        for n in 0..10 {
            sim.publish(writer, &message("t", &n.to_string()).qos(1));
        }
        assert_eq!(sim.received(online).len(), 10);
    });
}

#[test]
fn a_group_whose_members_are_all_away_keeps_messages_for_them() {
    story(|sim| {
        let member = sim.connect("member").session_expiry(hours(1)).accepted();
        sim.subscribe(member, "$share/g/t", 1);
        sim.cut(member);
        let writer = sim.connect("writer").accepted();
        for n in 0..10 {
            sim.publish(writer, &message("t", &n.to_string()).qos(1));
        }
        let member = sim.connect("member").resumed();
        assert_eq!(all_texts(sim, &[member]), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn mqtt_4_8_2_4_what_a_member_had_not_acknowledged_goes_to_another_when_its_session_ends() {
    story(|sim| {
        let stuck = sim.connect("stuck").receive_maximum(2).withholding_acknowledgements().accepted();
        sim.subscribe(stuck, "$share/g/t", 1);
        let writer = sim.connect("writer").accepted();
        for n in 0..10 {
            sim.publish(writer, &message("t", &n.to_string()).qos(1));
        }
        let other = sim.subscriber("other", "$share/g/t");
        sim.cut(stuck);
        assert_eq!(all_texts(sim, &[other]), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn mqtt_4_8_2_5_a_qos_2_message_in_flight_goes_to_nobody_else() {
    story(|sim| {
        let stuck = sim.connect("stuck").receive_maximum(1).withholding_acknowledgements().accepted();
        sim.subscribe(stuck, "$share/g/t", 2);
        let writer = sim.connect("writer").accepted();
        for n in 0..3 {
            sim.publish(writer, &message("t", &n.to_string()).qos(2));
        }
        let other = sim.subscriber("other", "$share/g/t");
        sim.cut(stuck);
        assert_eq!(all_texts(sim, &[stuck]), [0]);
        assert_eq!(all_texts(sim, &[other]), [1, 2]);
    });
}

#[test]
fn members_come_and_go_while_messages_flow_and_no_qos_1_message_is_lost() {
    story(|sim| {
        let steady = sim.subscriber("steady", "$share/g/t");
        let mut links = vec![steady];
        let writers: Vec<_> = (0..3).map(|n| sim.connect(&format!("writer-{n}")).accepted()).collect();
        for n in 0..60 {
            sim.post_publish(writers[n % 3], &message("t", &n.to_string()).qos(1));
            if n % 6 == 0 {
                let member = sim.connect(&format!("member-{n}")).posted();
                sim.post_subscribe(member, "$share/g/t", options(1));
                links.push(member);
            }
            if n % 6 == 3 {
                let leaving = links[links.len() - 1];
                if leaving != steady {
                    sim.end_link(leaving, willowmq::shard::Closed::Reset);
                }
            }
            for _ in 0..sim.random.below(4) {
                sim.step();
            }
        }
        sim.settle();
        let mut numbers = all_texts(sim, &links);
        numbers.dedup(); // A member may have had a message and not acknowledged it.
        assert_eq!(numbers, (0..60).collect::<Vec<_>>());
    });
}

#[test]
fn a_member_that_unsubscribes_gets_no_more() {
    story(|sim| {
        let members = members(sim, 2, "$share/g/t");
        sim.unsubscribe(members[0], "$share/g/t");
        let writer = sim.connect("writer").accepted();
        for n in 0..6 {
            assert_eq!(sim.publish(writer, &message("t", &n.to_string()).qos(1)), Some(ReasonCode::Success));
        }
        assert_eq!(sim.received(members[0]), []);
        assert_eq!(all_texts(sim, &members), (0..6).collect::<Vec<_>>());
        sim.unsubscribe(members[1], "$share/g/t");
        assert_eq!(sim.publish(writer, &message("t", "9").qos(1)), Some(ReasonCode::NoMatchingSubscribers));
    });
}

#[test]
fn a_member_whose_session_expires_leaves_the_group() {
    story(|sim| {
        let expiring = sim.connect("expiring").session_expiry(secs(5)).accepted();
        sim.subscribe(expiring, "$share/g/t", 1);
        sim.cut(expiring);
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "0").qos(1));
        let steady = sim.subscriber("steady", "$share/g/t");
        sim.advance(secs(6));
        assert_eq!(sim.texts(steady), ["0"]);
        sim.publish(writer, &message("t", "1").qos(1));
        assert_eq!(sim.texts(steady), ["0", "1"]);
    });
}
