//! How long the codec takes for one packet of each kind, decoding and encoding.
//!
//! Budget: a PUBLISH with 100 bytes of payload is decoded and encoded in 100 ns together. Every bench checks once that
//! what it decodes encodes to the bytes it came from.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use willowmq::codec::{
    Ack, Connack, Connect, Delivery, Disconnect, Forwarded, ForwardedBuilder, Outgoing, Packet, PacketId,
    ProtocolVersion, Publish, PublishTemplate, QoS, ReasonCode, Suback, Subscribe, SubscriptionFilters,
    SubscriptionIdentifiers, SubscriptionOptions, Unsuback, Unsubscribe, UnsubscribeFilters, UserProperties, Will,
    decode, encode, encode_publish, packet_length,
};

const V3: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;
const TOPIC: &str = "site/42/line/7/temperature";
const PACKET_BYTES_MAX: usize = 1 << 20;

fn packet_id() -> PacketId {
    PacketId::new(4711).expect("is not zero")
}

fn publish<'a>(qos: QoS, payload: &'a [u8], forwarded: Forwarded<'a>) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TOPIC,
        packet_id: qos.has_packet_id().then(packet_id),
        topic_alias: None,
        message_expiry_interval: None,
        subscription_identifiers: SubscriptionIdentifiers::default(),
        forwarded,
        payload,
    }
}

fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, version, &mut out);
    assert_eq!(packet_length(&out, PACKET_BYTES_MAX), Ok(Some(out.len())));
    assert_eq!(decode(&out, version).as_ref(), Ok(packet));
    out
}

/// One bench for each direction.
fn both_ways(criterion: &mut Criterion, name: &str, packet: &Packet<'_>, version: ProtocolVersion) {
    let bytes = encoded(packet, version);
    let mut out = Vec::with_capacity(bytes.len());
    criterion.bench_function(&format!("decode/{name}"), |bencher| {
        bencher.iter(|| decode(black_box(&bytes), version).is_ok());
    });
    criterion.bench_function(&format!("encode/{name}"), |bencher| {
        bencher.iter(|| {
            out.clear();
            encode(black_box(packet), version, &mut out);
            out.len()
        });
    });
}

fn every_kind(criterion: &mut Criterion) {
    let forwarded = ForwardedBuilder::new().content_type("application/json").user_property("trace", "0123456789abcdef");
    let mut connect = Connect::new(V5, "sensor-0815");
    connect.keep_alive = 60;
    connect.session_expiry_interval = 3600;
    connect.username = Some("sensor");
    connect.password = Some(b"secret");
    connect.will = Some(Will {
        topic: "status/sensor-0815",
        payload: b"offline",
        qos: QoS::AtLeastOnce,
        retain: true,
        will_delay_interval: 30,
        message_expiry_interval: None,
        forwarded: Forwarded::default(),
    });
    both_ways(criterion, "CONNECT with a will, 5.0", &Packet::Connect(Box::new(connect)), V5);

    let mut connack = Connack::new(false, ReasonCode::Success);
    connack.receive_maximum = Some(1024);
    connack.maximum_packet_size = Some(1 << 20);
    connack.topic_alias_maximum = Some(16);
    both_ways(criterion, "CONNACK, 5.0", &Packet::Connack(Box::new(connack)), V5);

    let payload = [b'x'; 100];
    let plain = Forwarded::default();
    let qos1 = Packet::Publish(publish(QoS::AtLeastOnce, &payload, plain));
    both_ways(criterion, "PUBLISH 100 B QoS 1, 3.1.1", &qos1, V3);
    both_ways(criterion, "PUBLISH 100 B QoS 1, 5.0", &qos1, V5);
    let with_properties = Packet::Publish(publish(QoS::AtLeastOnce, &payload, forwarded.forwarded()));
    both_ways(criterion, "PUBLISH 100 B QoS 1 with 2 properties, 5.0", &with_properties, V5);

    let ack = Ack::new(packet_id(), ReasonCode::Success);
    both_ways(criterion, "PUBACK", &Packet::Puback(ack), V5);
    both_ways(criterion, "PUBREC with a reason", &Packet::Pubrec(Ack::new(packet_id(), ReasonCode::QuotaExceeded)), V5);
    both_ways(criterion, "PUBREL", &Packet::Pubrel(ack), V5);
    both_ways(criterion, "PUBCOMP", &Packet::Pubcomp(ack), V5);

    let filters = [("site/+/line/#", SubscriptionOptions::new(QoS::AtLeastOnce)); 4];
    let subscribe = Subscribe {
        packet_id: packet_id(),
        subscription_identifier: Some(7),
        filters: SubscriptionFilters::from_slice(&filters),
        user_properties: UserProperties::default(),
    };
    both_ways(criterion, "SUBSCRIBE 4 filters", &Packet::Subscribe(subscribe), V5);
    let granted = [ReasonCode::GrantedQos1; 4];
    both_ways(criterion, "SUBACK 4 filters", &Packet::Suback(Suback::new(packet_id(), &granted)), V5);
    let unsubscribe = Unsubscribe {
        packet_id: packet_id(),
        filters: UnsubscribeFilters::from_slice(&["site/+/line/#"; 4]),
        user_properties: UserProperties::default(),
    };
    both_ways(criterion, "UNSUBSCRIBE 4 filters", &Packet::Unsubscribe(unsubscribe), V5);
    let ended = [ReasonCode::Success; 4];
    both_ways(criterion, "UNSUBACK 4 filters", &Packet::Unsuback(Unsuback::new(packet_id(), &ended)), V5);
    both_ways(criterion, "PINGREQ", &Packet::Pingreq, V5);
    both_ways(criterion, "DISCONNECT", &Packet::Disconnect(Disconnect::new(ReasonCode::Success)), V5);
}

/// What the broker does to a PUBLISH between two sockets: measure, decode, encode. Budget: 100 ns.
fn decode_and_encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish 100 B decode+encode");
    group.throughput(Throughput::Elements(1));
    let payload = [b'x'; 100];
    for (qos, version) in [(QoS::AtMostOnce, V3), (QoS::AtLeastOnce, V3), (QoS::AtMostOnce, V5), (QoS::AtLeastOnce, V5)]
    {
        let bytes = encoded(&Packet::Publish(publish(qos, &payload, Forwarded::default())), version);
        let mut out = Vec::with_capacity(bytes.len());
        relay(&bytes, version, &mut out);
        assert_eq!(out, bytes);
        group.bench_function(format!("QoS {}, {version}", qos.as_u8()), |bencher| {
            bencher.iter(|| {
                out.clear();
                relay(black_box(&bytes), version, &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

fn relay(bytes: &[u8], version: ProtocolVersion, out: &mut Vec<u8>) {
    let Ok(Some(length)) = packet_length(bytes, PACKET_BYTES_MAX) else { panic!("the packet is whole") };
    let Ok(Packet::Publish(publish)) = decode(&bytes[..length], version) else { panic!("the packet is a PUBLISH") };
    let message = Outgoing {
        topic: publish.topic,
        forwarded: publish.forwarded.as_bytes().expect("nothing stands among the properties"),
        payload: publish.payload,
        message_expiry_interval: publish.message_expiry_interval,
    };
    let delivery = Delivery {
        dup: false,
        qos: publish.qos,
        retain: false,
        packet_id: publish.packet_id,
        topic_alias: None,
        subscription_identifiers: &[],
    };
    encode_publish(version, &message, &delivery, out);
}

/// One more subscriber of a message that has been encoded already.
fn fan_out(criterion: &mut Criterion) {
    let payload = [b'x'; 100];
    let message = Outgoing { topic: TOPIC, forwarded: &[], payload: &payload, message_expiry_interval: None };
    let template = PublishTemplate::encode(V5, true, &message, Vec::new());
    let mut out = Vec::with_capacity(template.len());
    criterion.bench_function("template append/PUBLISH 100 B QoS 1", |bencher| {
        bencher.iter(|| {
            out.clear();
            template.append(false, QoS::AtLeastOnce, false, Some(black_box(packet_id())), &mut out);
            out.len()
        });
    });
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = decode_and_encode, fan_out, every_kind }
criterion_main!(benches);
