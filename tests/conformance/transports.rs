//! MQTT over TLS, WebSocket (chapter 6) and both: it is what it is over TCP, and such connections end in order.

use crate::harness::parse::{CONNACK, PINGRESP, PUBLISH};
use crate::harness::transport::{KINDS, Kind, Stream, tls_clients};
use crate::harness::wire::{self, RETAIN_AS_PUBLISHED};
use crate::harness::{Broker, Client, Connect, Publish, Will, millis, secs, unique};
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::time::Instant;
use tungstenite::Message;

/// The kinds that have something below MQTT.
const LAYERED: [Kind; 3] = [Kind::Tls, Kind::Ws, Kind::Wss];

fn start() -> Broker {
    Broker::of_all_kinds("")
}

/// A subscriber over TCP.
fn watcher(broker: &Broker, topic: &str) -> Client {
    let mut watcher = broker.client_over(Kind::Tcp);
    watcher.subscribe(topic, 1);
    watcher
}

/// A client whose will says "gone".
fn mortal(topic: &str) -> Connect {
    Connect::v5(&unique("mortal")).will(Will::new(topic, "gone").qos(1))
}

#[test]
fn mqtt_is_the_same_over_every_transport() {
    let broker = Broker::of_all_kinds("[limits]\npacket_bytes_max = \"4MiB\"\noutput_bytes_max = \"16MiB\"\n");
    let large = "0123456789".repeat(200_000);
    for of_publisher in KINDS {
        for of_subscriber in KINDS {
            let topic = unique("transport");
            let mut subscriber = broker.client_over(of_subscriber);
            assert_eq!(subscriber.subscribe(&topic, 2), 2);
            let mut publisher = broker.client_over(of_publisher);
            for qos in 0..=2 {
                assert_eq!(publisher.publish(Publish::new(&topic, &format!("{qos}")).qos(qos)), 0);
            }
            assert_eq!(subscriber.payloads(3), ["0", "1", "2"]);
            publisher.publish(Publish::new(&topic, &large).qos(1));
            assert!(subscriber.message().text() == large);
            publisher.disconnect();
            subscriber.disconnect();
        }
    }
}

/// On each shard there are connections that arrived on another one.
#[test]
fn connections_come_home_with_their_layers() {
    let broker = start();
    let topic = unique("home");
    let mut watcher = broker.client_over(Kind::Tcp);
    watcher.subscribe(&topic, 1);
    for kind in KINDS {
        for _ in 0..16 {
            let mut client = broker.client_over(kind);
            client.ping();
            client.publish(Publish::new(&topic, "here").qos(1));
            assert_eq!(watcher.message().text(), "here");
            client.disconnect();
        }
    }
}

/// MQTT packets need not be aligned on messages.
#[test]
fn mqtt_6_0_0_2_packets_come_in_pieces_and_several_in_one_message() {
    let broker = start();
    for kind in KINDS.into_iter().filter(|kind| kind.has_websocket()) {
        let mut client = broker.open_over(kind);
        for byte in Connect::v5(&unique("pieces")).encode() {
            client.send(&[byte]);
        }
        assert_eq!(client.expect(CONNACK).reason, 0);
        let topic = unique("pieces");
        client.subscribe(&topic, 0);
        let publish = |payload| Publish::new(&topic, payload).encode(5);
        client.send(&[publish("one"), publish("two"), publish("three")].concat());
        assert_eq!(client.payloads(3), ["one", "two", "three"]);
        client.stream.send_message(Message::Ping("are you there".into()));
        client.ping();
    }
}

/// Client libraries send all they have, DISCONNECT included, and end every layer in one go.
#[test]
fn a_client_that_sends_all_it_has_and_ends_is_heard() {
    let broker = start();
    for kind in KINDS {
        let topic = unique("at-once");
        let mut watcher = watcher(&broker, &topic);
        for round in 0..8 {
            let mut client = broker.open_over(kind);
            let text = format!("{kind:?} {round}");
            let connect = Connect::v5(&unique("at-once")).encode();
            client.send(&[connect, Publish::new(&topic, &text).encode(5), wire::disconnect()].concat());
            if round % 2 == 0 {
                client.stream.end_layer();
                client.finish_sending();
                assert_eq!(watcher.message().text(), text);
            } else {
                assert_eq!(watcher.message().text(), text);
                assert_eq!(client.expect(CONNACK).reason, 0);
                client.expect_closed();
            }
        }
    }
}

#[test]
fn a_flood_of_messages_comes_through_layers_in_order_and_to_its_end() {
    const MESSAGES: usize = 2_000;
    let broker = start();
    for kind in LAYERED {
        let topic = unique("flood");
        let mut receiver = broker.client_over(kind);
        receiver.subscribe(&topic, 1);
        let mut sender = broker.client_over(kind);
        let mut bytes = Vec::new();
        for number in 0..MESSAGES {
            bytes.extend(Publish::new(&topic, &number.to_string()).encode(5));
        }
        bytes.extend(wire::disconnect());
        sender.send(&bytes);
        let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(receiver.payloads(MESSAGES), expected, "{kind:?}");
    }
}

#[test]
fn a_slow_reader_over_layers_gets_all_of_it_in_the_end() {
    let broker = start();
    for kind in LAYERED {
        let topic = unique("slow");
        let mut receiver = broker.client_over(kind);
        receiver.subscribe(&topic, 1);
        let mut sender = broker.client_over(kind);
        let payload = "y".repeat(100_000);
        for _ in 0..100 {
            sender.publish(Publish::new(&topic, &payload).qos(1));
        }
        assert!(receiver.payloads(100).iter().all(|text| text.len() == payload.len()));
    }
}

#[test]
fn much_behind_connect_comes_home_with_it() {
    let broker = start();
    for kind in LAYERED {
        for _ in 0..16 {
            let mut bytes = Connect::v5(&unique("c")).encode();
            (0..200).for_each(|_| bytes.extend(Publish::new("much", &"x".repeat(10_000)).encode(5)));
            bytes.extend(wire::pingreq());
            let mut client = broker.open_over(kind);
            client.send(&bytes);
            client.expect(CONNACK);
            client.expect(PINGRESP);
        }
    }
}

#[test]
fn a_flood_of_pings_of_websocket_does_no_harm() {
    let broker = start();
    for kind in [Kind::Ws, Kind::Wss] {
        let mut client = broker.client_over(kind);
        for number in 0..20_000_u32 {
            client.stream.send_message(Message::Ping(number.to_be_bytes().to_vec().into()));
        }
        client.ping();
    }
}

#[test]
fn will_is_published_when_a_connection_is_cut_over_every_transport() {
    let broker = start();
    for kind in KINDS {
        let topic = unique("will");
        let mut watcher = broker.client_over(Kind::Wss);
        watcher.subscribe(&topic, 1);
        broker.connect_over(kind, &mortal(&topic)).cut();
        assert_eq!(watcher.message().text(), "gone");
        broker.connect_over(kind, &mortal(&topic)).reset();
        assert_eq!(watcher.message().text(), "gone");
    }
}

/// The end of a TLS session, or a close frame, is no DISCONNECT.
#[test]
fn will_is_published_when_a_layer_ends_without_a_disconnect() {
    let broker = start();
    for kind in LAYERED {
        let topic = unique("will");
        let mut watcher = watcher(&broker, &topic);
        let mut client = broker.connect_over(kind, &mortal(&topic));
        client.stream.end_layer();
        assert_eq!(watcher.message().text(), "gone");
        client.until_closed();
    }
}

#[test]
fn will_is_discarded_by_a_disconnect_before_a_layer_ends() {
    let broker = start();
    for kind in LAYERED {
        let topic = unique("will");
        let mut watcher = watcher(&broker, &topic);
        let mut client = broker.connect_over(kind, &mortal(&topic));
        client.send(&wire::disconnect());
        client.stream.end_layer();
        client.until_closed();
        assert_eq!(watcher.until_own_marker(), []);
    }
}

#[test]
fn mqtt_3_14_4_3_disconnect_is_not_overtaken_by_the_connection_that_takes_over() {
    let broker = start();
    for kind in LAYERED {
        let topic = unique("will");
        let mut watcher = watcher(&broker, &topic);
        for _ in 0..16 {
            let id = unique("c");
            let mut older = broker.connect_over(kind, &Connect::v5(&id).will(Will::new(&topic, "overtaken")));
            older.send(&wire::disconnect());
            broker.connect_over(kind, &Connect::v5(&id)).ping();
        }
        watcher.expect_quiet();
    }
}

/// A connection of a client that reads little at a time.
fn small_reader(kind: Kind, address: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    Client::of(Stream::over(kind, socket.into(), &tls_clients(false)).unwrap(), 5)
}

#[test]
fn mqtt_3_1_2_10_goodbye_of_a_client_that_reads_nothing_is_heard_before_its_layers_end() {
    for kind in LAYERED {
        let broker = Broker::with_shards(1, &kind.listener(""));
        let connect = |connect: &Connect| {
            let mut client = Client::open(broker.last_address(), 5);
            assert_eq!(client.try_connect(connect), Some(0));
            client
        };
        let mut watcher = connect(&Connect::v5(&unique("watcher")));
        watcher.subscribe("choked/#", 1);
        let id = unique("choked");
        let mut client = small_reader(kind, broker.address);
        assert_eq!(client.try_connect(&Connect::v5(&id).will(Will::new("choked/will", "alarm"))), Some(0));
        client.subscribe(&id, 1);
        // Its output stands still, and its next packet has it read from no more.
        let mut publisher = connect(&Connect::v5(&unique("publisher")));
        (0..1000).for_each(|_| publisher.publish_only(&Publish::new(&id, &"x".repeat(20_000))));
        publisher.ping();
        client.send(&wire::pingreq());
        publisher.ping();
        publisher.ping();
        let mut bytes = Publish::new("choked/last", "word").encode(5);
        bytes.extend(wire::disconnect());
        client.send(&bytes);
        client.stream.end_layer();
        publisher.ping(); // By now the broker would have read it, did it read.
        drop(client);
        assert_eq!(watcher.expect(PUBLISH).text(), "word", "{kind:?}");
        watcher.expect_quiet();
        publisher.ping();
    }
}

#[test]
fn mqtt_6_0_0_1_text_ends_the_connection_and_its_will_is_published() {
    let mut broker = start();
    for kind in [Kind::Ws, Kind::Wss] {
        let topic = unique("will");
        let mut watcher = watcher(&broker, &topic);
        let mut client = broker.connect_over(kind, &mortal(&topic));
        client.stream.send_message(Message::text("hello"));
        assert_eq!(watcher.message().text(), "gone");
        client.until_closed();
        assert_eq!(client.stream.close_code(), Some(1003));
    }
    assert_eq!(broker.total("websocket_faults"), 2);
}

#[test]
fn a_websocket_is_closed_with_a_code_that_says_why() {
    let mut broker = start();
    let mut ended = broker.client_over(Kind::Ws);
    ended.send(&wire::disconnect());
    ended.until_closed();
    assert_eq!(ended.stream.close_code(), Some(1000));

    let mut stranger = broker.open_over(Kind::Ws);
    stranger.send(b"\x30\x00"); // PUBLISH before CONNECT. [MQTT-3.1.0-1]
    stranger.until_closed();
    assert_eq!(stranger.stream.close_code(), Some(1008));

    let mut last = broker.client_over(Kind::Ws);
    assert_eq!(broker.total("bad_first_packets"), 1);
    last.until_closed();
    assert_eq!(last.stream.close_code(), Some(1001));
}

/// A connection that we end has its close frame and the end of its TLS session: clients tell that from an attack.
#[test]
fn connections_end_in_order() {
    let broker = start();
    for kind in LAYERED {
        let name = unique("taken-over");
        let mut first = broker.connect_over(kind, &Connect::v5(&name));
        let _second = broker.connect_over(kind, &Connect::v5(&name));
        first.expect_disconnect(&[0x8E]); // Session taken over. [MQTT-3.1.4-3]
        assert_eq!(first.stream.close_code().is_some(), kind.has_websocket(), "{kind:?}");
    }
}

/// A camera with a retained will and a Will Delay, and a hub that watches it, both in browsers.
#[test]
fn will_of_a_camera_tells_a_hub_over_wss() {
    let broker = start();
    let topic = unique("home/camera/status");
    let mut hub = broker.client_over(Kind::Wss);
    hub.subscribe(&topic, 1 | RETAIN_AS_PUBLISHED);
    let name = unique("camera");
    let connect = || {
        let will = Will::new(&topic, "offline").qos(1).retain().delay(1);
        broker.connect_over(Kind::Wss, &Connect::v5(&name).resume().expiry(3600).will(will))
    };
    let mut camera = connect();
    camera.publish(Publish::new(&topic, "online").qos(1).retain());
    assert_eq!(hub.message().text(), "online");
    // It comes back in time, so nobody hears of it.
    camera.cut();
    let camera = connect();
    assert!(camera.session_present());
    hub.expect_silence(millis(1500)); // [MQTT-3.1.3-9]
    let start = Instant::now();
    camera.cut();
    assert_eq!(hub.message().text(), "offline");
    assert!(start.elapsed() >= secs(1), "early: {:?}", start.elapsed());
    let mut late = broker.client_over(Kind::Ws);
    late.subscribe(&topic, 1);
    let kept = late.message();
    assert_eq!(kept.text(), "offline");
    assert!(kept.retain());
}

#[test]
fn tls_handshakes_and_bytes_of_sockets_are_counted() {
    let mut broker = start();
    let clients: Vec<_> = KINDS.into_iter().map(|kind| broker.client_over(kind)).collect();
    assert_eq!(broker.total("tls_handshakes"), 2, "TLS, and WebSocket over TLS");
    // A CONNECT and a CONNACK are some bytes; what TLS exchanges before them is more than a thousand.
    assert!(broker.total("bytes_received") > 1000 && broker.total("bytes_sent") > 1000);
    drop(clients);
}
