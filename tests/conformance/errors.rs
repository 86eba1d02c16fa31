//! Hostile and broken input: it ends one connection, and nothing else (§4.13).

use crate::harness::parse::CONNACK;
use crate::harness::{Broker, Connect, Publish, unique, wire};

/// Sends bytes on a connection that is established; the server ends it and serves others on.
fn expect_end(version: u8, bytes: &[u8]) {
    let broker = Broker::shared();
    let mut client = broker.client(version);
    client.send_anyway(bytes);
    client.until_closed();
    broker.client(version).ping();
}

#[test]
fn mqtt_4_13_1_1_malformed_packet_ends_the_connection_with_its_reason() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x82, &[0]));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn v311_mqtt_4_8_0_1_protocol_violation_ends_the_connection() {
    expect_end(4, &wire::packet(0x82, &[0]));
}

#[test]
fn mqtt_2_1_2_packet_type_0_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&[0x00, 0x00]);
    client.expect_disconnect(&[0x81, 0x82]);
}

#[test]
fn mqtt_2_1_3_1_reserved_flags_are_malformed() {
    for first in [0x41, 0x51, 0x71] {
        let mut client = Broker::shared().client(5);
        client.send(&wire::packet(first, &[0, 1]));
        client.expect_disconnect(&[0x81]);
    }
}

#[test]
fn v311_mqtt_2_2_2_2_reserved_flags_end_the_connection() {
    for first in [0x41, 0x51, 0x71] {
        expect_end(4, &wire::packet(first, &[0, 1]));
    }
}

#[test]
fn mqtt_1_5_5_remaining_length_of_five_bytes_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send_anyway(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_1_5_5_remaining_length_of_five_bytes_in_connect_is_not_served() {
    let mut client = Broker::shared().open(5);
    client.send_anyway(&[0x10, 0x80, 0x80, 0x80, 0x80, 0x01]);
    assert!(client.until_closed().iter().all(|packet| packet.kind == CONNACK && packet.reason >= 0x80));
}

#[test]
fn mqtt_2_1_4_announced_giant_is_refused_before_it_is_sent() {
    let mut client = Broker::shared().client(5);
    client.send_anyway(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]); // 256 MiB follow, says the header.
    client.expect_disconnect(&[0x95]);
}

#[test]
fn mqtt_2_1_4_giant_connect_is_refused_before_it_is_sent() {
    let mut client = Broker::shared().open(5);
    client.send_anyway(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert!(client.until_closed().iter().all(|packet| packet.kind == CONNACK && packet.reason == 0x95));
}

#[test]
fn packets_that_only_a_server_may_send_end_the_connection() {
    for bytes in [
        wire::packet(0x20, &[0, 0, 0]),
        wire::packet(0x90, &[0, 1, 0, 0]),
        wire::packet(0xB0, &[0, 1, 0, 0]),
        wire::packet(0xD0, &[]),
    ] {
        let mut client = Broker::shared().client(5);
        client.send(&bytes);
        client.expect_disconnect(&[0x82, 0x81]);
        expect_end(4, &bytes);
    }
}

#[test]
fn mqtt_1_5_4_1_string_that_is_not_utf_8_is_malformed() {
    for bytes in [&[0xC0_u8, 0xAF][..], &[0xED, 0xA0, 0x80], &[0xF5, 0x80, 0x80, 0x80], &[0x80], &[0xE2, 0x82]] {
        let mut client = Broker::shared().client(5);
        client.publish_only(&Publish::raw(bytes, b"x"));
        client.expect_disconnect(&[0x81, 0x90]);
    }
}

#[test]
fn v311_mqtt_1_5_3_1_string_that_is_not_utf_8_ends_the_connection() {
    for bytes in [&[0xC0_u8, 0xAF][..], &[0xED, 0xA0, 0x80]] {
        expect_end(4, &Publish::raw(bytes, b"x").encode(4));
    }
}

#[test]
fn mqtt_1_5_4_2_null_character_in_the_client_identifier_is_refused() {
    let connack = Broker::shared().refuse(Connect::v5("a\0b"));
    assert!([0x81, 0x85].contains(&connack.reason), "{connack:?}");
}

#[test]
fn v311_mqtt_1_5_3_2_null_character_ends_the_connection() {
    expect_end(4, &Publish::new("a\0b", "x").encode(4));
}

#[test]
fn string_longer_than_its_packet_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x30, &[0xFF, 0xFF, b'a']));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn acknowledgement_that_is_too_short_or_too_long_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x40, &[1]));
    client.expect_disconnect(&[0x81]);
    expect_end(4, &wire::packet(0x40, &[0, 1, 0]));
}

#[test]
fn mqtt_3_4_2_1_unknown_reason_code_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x40, &[0, 1, 0x42]));
    client.expect_disconnect(&[0x81, 0x82]);
}

#[test]
fn acknowledgement_of_nothing_is_survived() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x40, &[0x12, 0x34]));
    client.send(&wire::packet(0x70, &[0x12, 0x34]));
    client.ping();
}

#[test]
fn packets_may_arrive_byte_by_byte() {
    let broker = Broker::shared();
    let topic = unique("slow");
    let mut bytes = wire::subscribe(5, 1, &[(&topic, 0)], &[]);
    bytes.extend(Publish::new(&topic, "slow but sure").encode(5));
    let mut client = broker.open(5);
    for byte in Connect::v5(&unique("slow")).encode().into_iter().chain(bytes) {
        client.send(&[byte]);
    }
    client.expect(CONNACK);
    client.await_kind(crate::harness::parse::SUBACK);
    assert_eq!(client.message().text(), "slow but sure");
}

#[test]
fn many_packets_may_arrive_in_one_segment() {
    let broker = Broker::shared();
    let topic = unique("batch");
    let mut client = broker.client(5);
    client.subscribe(&topic, 0);
    let bytes: Vec<u8> = (0..500).flat_map(|index| Publish::new(&topic, &index.to_string()).encode(5)).collect();
    client.send(&bytes);
    let expected: Vec<String> = (0..500).map(|index| index.to_string()).collect();
    assert_eq!(client.payloads(500), expected);
}

#[test]
fn other_protocols_are_turned_away() {
    let broker = Broker::shared();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0xFF; 64],
        &[0x00; 64],
    ] {
        let mut client = broker.open(5);
        client.send_anyway(bytes);
        client.until_closed();
    }
    broker.client(5).ping();
}

#[test]
fn noise_never_stops_the_broker() {
    let broker = Broker::shared();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..300 {
        let mut noise = Vec::new();
        for _ in 0..64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend(state.to_le_bytes());
        }
        let mut client = if round % 2 == 0 { broker.open(5) } else { broker.client(5) };
        if round % 3 == 0 {
            noise[0] = 0x10 | (noise[0] & 0xE0); // Like the first byte of a packet.
            noise[1] = 100;
        }
        client.send_anyway(&noise);
    }
    broker.client(5).ping();
}

#[test]
fn connect_cut_at_every_byte_never_stops_the_broker() {
    let broker = Broker::shared();
    let will = crate::harness::Will::new("t", "gone").delay(0);
    let bytes = Connect::v5(&unique("cut")).username(b"u").password(b"p").will(will).encode();
    for end in 0..bytes.len() {
        broker.open(5).send_anyway(&bytes[..end]);
    }
    broker.client(5).ping();
}

#[test]
fn connect_shortened_to_every_length_is_refused() {
    let broker = Broker::shared();
    let bytes = Connect::v5(&unique("short")).username(b"u").password(b"p").encode();
    for end in 2..bytes.len() {
        let mut client = broker.open(5);
        client.send_anyway(&wire::packet(0x10, &bytes[2..end]));
        assert!(client.until_closed().iter().all(|packet| packet.reason >= 0x80), "{end}");
    }
}

#[test]
fn connection_limit_is_told_and_frees_up_again() {
    let broker = Broker::start("[limits]\nconnections_max = 2\n");
    let first = broker.client(5);
    let _second = broker.client(5);
    let mut third = broker.open(5);
    third.send_anyway(&Connect::v5("third").encode());
    assert!(third.until_closed().iter().all(|packet| [0x97, 0x9F, 0x89, 0x88].contains(&packet.reason)));
    first.disconnect();
    let end = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let mut client = broker.open(5);
        client.send_anyway(&Connect::v5("third").encode());
        if client.until_closed_or(CONNACK).iter().any(|packet| packet.reason == 0) {
            break;
        }
        assert!(std::time::Instant::now() < end, "the place never becomes free");
    }
}
