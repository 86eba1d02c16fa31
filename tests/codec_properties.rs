//! Properties of the codec: whatever is encoded decodes to the same packet, and no bytes make it panic or read on.

use std::num::NonZeroU16;

use proptest::{collection::vec, option, prelude::*, sample::select};
use willowmq::codec::{
    Ack, Auth, Connack, Connect, Delivery, Disconnect, ForwardedBuilder, Outgoing, PACKET_BYTES_MAX, Packet, PacketId,
    PacketKind, ProtocolVersion, Publish, PublishTemplate, QoS, ReasonCode, Reasons, RetainHandling, Suback, Subscribe,
    SubscriptionFilters, SubscriptionIdentifiers, SubscriptionOptions, Unsuback, Unsubscribe, UnsubscribeFilters,
    UserProperties, Will, decode, encode, encode_publish, packet_length, publish_length,
};

/// The values that packets are made of. Packets borrow, so a test draws these and then builds the packet it wants.
#[derive(Clone, Debug)]
struct Parts {
    version: ProtocolVersion,
    flags: [bool; 8],
    qos: QoS,
    short: u16,
    long: u32,
    packet_id: NonZeroU16,
    identifiers: Vec<u32>,
    texts: [String; 4],
    maybe_texts: [Option<String>; 4],
    maybe_bytes: Option<Vec<u8>>,
    maybe_long: Option<u32>,
    payload: Vec<u8>,
    pairs: Vec<(String, String)>,
    filters: Vec<(String, SubscriptionOptions)>,
    reason: u8,
    reasons: Vec<u8>,
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    select(vec![ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5])
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z0-9/äß€😀]{1,24}", 1 => "[a-z]{120,400}"]
}

fn options() -> impl Strategy<Value = SubscriptionOptions> {
    let handling = select(vec![RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(|(qos, no_local, retain_as_published, retain_handling)| {
        SubscriptionOptions { qos, no_local, retain_as_published, retain_handling }
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let scalars = (version(), any::<[bool; 8]>(), qos(), 1..=u16::MAX, 1..=u32::MAX, any::<NonZeroU16>());
    let texts = ([text(), text(), text(), text()], [(); 4].map(|()| option::of(text())));
    let bytes = (option::of(vec(any::<u8>(), 0..40)), option::of(1..=u32::MAX), vec(any::<u8>(), 0..300));
    let identifiers = vec(1..=SubscriptionIdentifiers::VALUE_MAX, 0..4);
    let lists = (vec((text(), text()), 0..4), vec((text(), options()), 1..5), identifiers);
    let reasons = (any::<u8>(), vec(any::<u8>(), 1..6));
    (scalars, texts, bytes, lists, reasons).prop_map(|(scalars, texts, bytes, lists, reasons)| Parts {
        version: scalars.0,
        flags: scalars.1,
        qos: scalars.2,
        short: scalars.3,
        long: scalars.4,
        packet_id: scalars.5,
        texts: texts.0,
        maybe_texts: texts.1,
        maybe_bytes: bytes.0,
        maybe_long: bytes.1,
        payload: bytes.2,
        pairs: lists.0,
        filters: lists.1,
        identifiers: lists.2,
        reason: reasons.0,
        reasons: reasons.1,
    })
}

/// One of the codes that `kind` may carry in `version`.
fn reason(kind: PacketKind, version: ProtocolVersion, choice: u8) -> ReasonCode {
    let in_3x = |code: &ReasonCode| match kind {
        PacketKind::Connack => {
            code.connack_return_code_3x().and_then(ReasonCode::from_connack_return_code_3x) == Some(*code)
        }
        PacketKind::Suback => code.as_u8() <= 0x80,
        _ => *code == ReasonCode::Success,
    };
    let valid: Vec<ReasonCode> = (0..=u8::MAX)
        .filter_map(ReasonCode::from_u8)
        .filter(|code| code.is_valid_in(kind) && (version.has_reason_codes() || in_3x(code)))
        .collect();
    valid[usize::from(choice) % valid.len()]
}

impl Parts {
    /// Hands a packet of each kind to `check`, in the version of these parts and without what it cannot express.
    fn for_each_packet(&self, mut check: impl FnMut(&Packet<'_>)) {
        let is_v5 = self.version.has_properties();
        let pairs: Vec<(&str, &str)> = self.pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let user_properties = UserProperties::from_slice(if is_v5 { &pairs } else { &[] });
        let [first, second, third, fourth] = self.maybe_texts.each_ref().map(|text| text.as_deref().filter(|_| is_v5));
        let maybe_long = self.maybe_long.filter(|_| is_v5);
        let packet_id = PacketId::from(self.packet_id);
        let data = self.maybe_bytes.as_deref();
        let forwarded = self.forwarded();
        let reason = |kind| reason(kind, self.version, self.reason);

        let will = Will {
            topic: &self.texts[1],
            payload: &self.payload,
            qos: self.qos,
            retain: self.flags[2],
            will_delay_interval: maybe_long.unwrap_or(0),
            message_expiry_interval: maybe_long,
            forwarded: forwarded.forwarded(),
        };
        let username = self.maybe_texts[3].as_deref();
        let mut connect = Connect::new(self.version, &self.texts[0]);
        connect.clean_start = self.flags[0];
        connect.keep_alive = self.short;
        connect.will = self.flags[1].then_some(will);
        connect.username = username;
        connect.password = data.filter(|_| is_v5 || username.is_some());
        if is_v5 {
            connect.session_expiry_interval = self.long;
            connect.receive_maximum = self.short;
            connect.maximum_packet_size = maybe_long;
            connect.topic_alias_maximum = self.short;
            connect.request_response_information = self.flags[3];
            connect.request_problem_information = self.flags[4];
            connect.user_properties = user_properties;
            connect.authentication_method = first;
            connect.authentication_data = data.filter(|_| first.is_some());
        }
        check(&Packet::Connect(Box::new(connect)));

        let connack_reason = reason(PacketKind::Connack);
        let has_session = self.version.has_session_present() && connack_reason == ReasonCode::Success;
        let mut connack = Connack::new(has_session && self.flags[0], connack_reason);
        if is_v5 {
            let flag = |index: usize| self.flags[index].then_some(self.flags[index + 1]);
            connack.session_expiry_interval = maybe_long;
            connack.receive_maximum = Some(self.short);
            connack.maximum_qos = (self.qos != QoS::ExactlyOnce).then_some(self.qos);
            connack.retain_available = flag(1);
            connack.maximum_packet_size = Some(self.long);
            connack.assigned_client_identifier = first;
            connack.topic_alias_maximum = Some(self.short);
            connack.reason_string = second;
            connack.user_properties = user_properties;
            connack.wildcard_subscription_available = flag(2);
            connack.subscription_identifiers_available = flag(3);
            connack.shared_subscription_available = flag(4);
            connack.server_keep_alive = Some(self.short);
            connack.response_information = third;
            connack.server_reference = fourth;
            connack.authentication_method = first;
            connack.authentication_data = data;
        }
        check(&Packet::Connack(Box::new(connack)));

        let topic_alias = NonZeroU16::new(self.short).filter(|_| is_v5 && self.flags[5]);
        check(&Packet::Publish(Publish {
            dup: self.flags[0] && self.qos.has_packet_id(),
            qos: self.qos,
            retain: self.flags[1],
            topic: if topic_alias.is_some() && self.flags[6] { "" } else { &self.texts[0] },
            packet_id: self.qos.has_packet_id().then_some(packet_id),
            topic_alias,
            message_expiry_interval: maybe_long,
            subscription_identifiers: SubscriptionIdentifiers::from_slice(if is_v5 { &self.identifiers } else { &[] }),
            forwarded: forwarded.forwarded(),
            payload: &self.payload,
        }));

        let ack = |kind| Ack { packet_id, reason: reason(kind), reason_string: first, user_properties };
        check(&Packet::Puback(ack(PacketKind::Puback)));
        check(&Packet::Pubrec(ack(PacketKind::Pubrec)));
        check(&Packet::Pubrel(ack(PacketKind::Pubrel)));
        check(&Packet::Pubcomp(ack(PacketKind::Pubcomp)));

        let filters: Vec<(&str, SubscriptionOptions)> = self
            .filters
            .iter()
            .map(|(filter, options)| (&**filter, if is_v5 { *options } else { SubscriptionOptions::new(options.qos) }))
            .collect();
        check(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_identifier: self.identifiers.first().copied().filter(|_| is_v5),
            filters: SubscriptionFilters::from_slice(&filters),
            user_properties,
        }));
        let names: Vec<&str> = filters.iter().map(|(filter, _)| *filter).collect();
        let filters = UnsubscribeFilters::from_slice(&names);
        check(&Packet::Unsubscribe(Unsubscribe { packet_id, filters, user_properties }));

        let all = |kind| -> Vec<ReasonCode> {
            self.reasons.iter().map(|choice| self::reason(kind, self.version, *choice)).collect()
        };
        let (granted, ended) = (all(PacketKind::Suback), all(PacketKind::Unsuback));
        let reasons = Reasons::from_slice(&granted);
        check(&Packet::Suback(Suback { packet_id, reasons, reason_string: first, user_properties }));
        let reasons = Reasons::from_slice(if is_v5 { &ended } else { &[] });
        check(&Packet::Unsuback(Unsuback { packet_id, reasons, reason_string: first, user_properties }));

        check(&Packet::Pingreq);
        check(&Packet::Pingresp);
        check(&Packet::Disconnect(Disconnect {
            reason: reason(PacketKind::Disconnect),
            session_expiry_interval: maybe_long,
            reason_string: first,
            server_reference: second,
            user_properties,
        }));
        if is_v5 {
            check(&Packet::Auth(Auth::default()));
            check(&Packet::Auth(Auth {
                reason: reason(PacketKind::Auth),
                authentication_method: Some(&self.texts[2]),
                authentication_data: data,
                reason_string: third,
                user_properties,
            }));
        }
    }

    /// Every packet of [`Self::for_each_packet`], encoded.
    fn encoded_packets(&self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        self.for_each_packet(|packet| {
            let mut out = Vec::new();
            encode(packet, self.version, &mut out);
            packets.push(out);
        });
        packets
    }

    fn forwarded(&self) -> ForwardedBuilder {
        let mut builder = ForwardedBuilder::new();
        if !self.version.has_properties() {
            return builder;
        }
        if self.flags[7] {
            builder = builder.payload_format_is_utf8(self.flags[6]);
        }
        for (name, value) in &self.pairs {
            builder = builder.user_property(name, value);
        }
        if let Some(text) = &self.maybe_texts[0] {
            builder = builder.content_type(text);
        }
        if let Some(text) = &self.maybe_texts[1] {
            builder = builder.response_topic(text);
        }
        if let Some(data) = &self.maybe_bytes {
            builder = builder.correlation_data(data);
        }
        builder
    }
}

/// Iterates over everything lazy inside a packet, which must not panic either.
fn read_whole(packet: &Packet<'_>) -> usize {
    format!("{packet:?}").len()
}

proptest! {
    #[test]
    fn every_packet_survives_the_wire(parts in parts()) {
        let mut failures = Vec::new();
        parts.for_each_packet(|packet| {
            let mut out = vec![0xA5];
            encode(packet, parts.version, &mut out);
            let bytes = &out[1..];
            let length = packet_length(bytes, PACKET_BYTES_MAX);
            // CONNECT must not look at the version it is told.
            let told = if packet.kind() == PacketKind::Connect { ProtocolVersion::V3_1 } else { parts.version };
            let decoded = decode(bytes, told);
            if length != Ok(Some(bytes.len())) || decoded.as_ref() != Ok(packet) {
                failures.push(format!("{packet:?}\n -> {decoded:?}"));
            }
        });
        prop_assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn what_was_decoded_encodes_to_what_decodes_alike(parts in parts(), at in any::<prop::sample::Index>(), byte: u8) {
        for mut bytes in parts.encoded_packets() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let Ok(packet) = decode(&bytes, parts.version) else { continue };
            let mut again = Vec::new();
            encode(&packet, parts.version, &mut again);
            prop_assert_eq!(decode(&again, parts.version), Ok(packet));
        }
    }

    #[test]
    fn mutated_packets_are_decoded_or_refused(
        parts in parts(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        version in version(),
    ) {
        for mut bytes in parts.encoded_packets() {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = decode(&bytes, version).map(|packet| read_whole(&packet));
        }
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200), version in version()) {
        let _ = packet_length(&bytes, PACKET_BYTES_MAX);
        let _ = decode(&bytes, version).map(|packet| read_whole(&packet));
    }

    /// Arbitrary bytes seldom have a length that fits; here it always does.
    #[test]
    fn arbitrary_bodies_are_decoded_or_refused(first: u8, body in vec(any::<u8>(), 0..127), version in version()) {
        let bytes = [&[first, body.len() as u8], &body[..]].concat();
        let _ = decode(&bytes, version).map(|packet| read_whole(&packet));
    }

    /// No part of a packet passes for the packet, and none is refused before it is whole.
    #[test]
    fn a_packet_cut_short_is_waited_for(parts in parts(), at in any::<prop::sample::Index>()) {
        for bytes in parts.encoded_packets() {
            let part = &bytes[..at.index(bytes.len())];
            match packet_length(part, PACKET_BYTES_MAX) {
                Ok(None) => {}
                Ok(Some(length)) => prop_assert_eq!(length, bytes.len()),
                Err(error) => prop_assert!(false, "{}", error),
            }
            prop_assert!(decode(part, parts.version).is_err());
        }
    }

    /// A stream cut at arbitrary places gives the packets that went in.
    #[test]
    fn a_stream_splits_into_its_packets(parts in parts(), cuts in vec(1..64_usize, 1..20)) {
        let packets = parts.encoded_packets();
        let stream = packets.concat();
        let (mut arrived, mut taken, mut found) = (0, 0, Vec::new());
        let mut cuts = cuts.iter().cycle();
        while arrived < stream.len() {
            arrived = stream.len().min(arrived + cuts.next().unwrap());
            while let Some(length) = packet_length(&stream[taken..arrived], PACKET_BYTES_MAX).unwrap() {
                let Some(packet) = stream[taken..arrived].get(..length) else { break };
                decode(packet, parts.version).unwrap();
                found.push(packet.to_vec());
                taken += length;
            }
        }
        prop_assert_eq!(found, packets);
    }

    #[test]
    fn deliveries_decode_to_what_was_sent(parts in parts()) {
        let built = parts.forwarded();
        let forwarded = built.clone().into_bytes();
        let message = Outgoing {
            topic: &parts.texts[0],
            forwarded: &forwarded,
            payload: &parts.payload,
            message_expiry_interval: parts.maybe_long,
        };
        let delivery = Delivery {
            dup: parts.flags[0] && parts.qos.has_packet_id(),
            qos: parts.qos,
            retain: parts.flags[1],
            packet_id: parts.qos.has_packet_id().then_some(PacketId::from(parts.packet_id)),
            topic_alias: NonZeroU16::new(parts.short).filter(|_| parts.flags[2]).map(|alias| (alias, parts.flags[3])),
            subscription_identifiers: &parts.identifiers,
        };
        let mut out = Vec::new();
        encode_publish(parts.version, &message, &delivery, &mut out);
        prop_assert_eq!(out.len(), publish_length(parts.version, &message, &delivery));
        let Ok(Packet::Publish(publish)) = decode(&out, parts.version) else { panic!("{out:?}") };
        prop_assert_eq!((publish.payload, publish.qos, publish.dup), (message.payload, delivery.qos, delivery.dup));
        if parts.version.has_properties() {
            prop_assert_eq!(publish.forwarded, built.forwarded());
            prop_assert_eq!(publish.message_expiry_interval, message.message_expiry_interval);
            let identifiers: Vec<u32> = publish.subscription_identifiers.iter().collect();
            prop_assert_eq!(&identifiers, &parts.identifiers);
        }

        let plain = Delivery { topic_alias: None, subscription_identifiers: &[], ..delivery };
        let mut expected = Vec::new();
        encode_publish(parts.version, &message, &plain, &mut expected);
        let template = PublishTemplate::encode(parts.version, parts.qos.has_packet_id(), &message, out);
        let mut appended = Vec::new();
        template.append(plain.dup, plain.qos, plain.retain, plain.packet_id, &mut appended);
        prop_assert_eq!(appended, expected);
    }
}
