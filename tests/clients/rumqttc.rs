//! rumqttc for Rust, with MQTT 3.1.1 and 5.0.

use crate::broker::{Broker, Transport};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const A_MOMENT: Duration = Duration::from_millis(300);

mod v311 {
    use super::{A_MOMENT, Broker, PATIENCE, Transport};
    use rumqttc::{Client, Connection, Event, LastWill, MqttOptions, Outgoing, Packet, Publish, QoS};
    use std::time::Duration;

    struct Session {
        client: Client,
        connection: Connection,
    }

    impl Session {
        fn open(broker: &Broker, client_id: &str, configure: impl FnOnce(&mut MqttOptions)) -> Self {
            let mut options = MqttOptions::new(client_id, "127.0.0.1", broker.port(Transport::Tcp));
            configure(&mut options);
            let (client, connection) = Client::new(options, 100);
            let mut session = Self { client, connection };
            session.wait(|event| matches!(event, Event::Incoming(Packet::ConnAck(_))));
            session
        }

        fn event(&mut self, patience: Duration) -> Option<Event> {
            let event = self.connection.recv_timeout(patience).ok()?;
            Some(event.expect("the connection holds"))
        }

        fn wait(&mut self, is_it: impl Fn(&Event) -> bool) {
            while !is_it(&self.event(PATIENCE).expect("an event in time")) {}
        }

        fn subscribe(mut self, filter: &str) -> Self {
            self.client.subscribe(filter, QoS::ExactlyOnce).unwrap();
            self.wait(|event| matches!(event, Event::Incoming(Packet::SubAck(_))));
            self
        }

        fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) {
            self.client.publish(topic, qos, retain, payload).unwrap();
            self.wait(|event| match qos {
                QoS::AtMostOnce => matches!(event, Event::Outgoing(Outgoing::Publish(_))),
                QoS::AtLeastOnce => matches!(event, Event::Incoming(Packet::PubAck(_))),
                QoS::ExactlyOnce => matches!(event, Event::Incoming(Packet::PubComp(_))),
            });
        }

        fn message(&mut self, patience: Duration) -> Option<Publish> {
            loop {
                if let Event::Incoming(Packet::Publish(publish)) = self.event(patience)? {
                    return Some(publish);
                }
            }
        }

        fn disconnect(mut self) {
            self.client.disconnect().unwrap();
            self.wait(|event| matches!(event, Event::Outgoing(Outgoing::Disconnect)));
        }
    }

    fn mortal(options: &mut MqttOptions) {
        options.set_last_will(LastWill::new("status/mortal", "gone", QoS::AtLeastOnce, false));
    }

    #[test]
    fn messages_of_every_qos() {
        let broker = Broker::start();
        let mut subscriber = Session::open(&broker, "subscriber", |_| {}).subscribe("room/+");
        let mut publisher = Session::open(&broker, "publisher", |_| {});
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish("room/1", qos, false, "20.5");
            let message = subscriber.message(PATIENCE).unwrap();
            assert_eq!((message.qos, &message.payload[..]), (qos, &b"20.5"[..]));
        }
    }

    #[test]
    fn retained_message() {
        let broker = Broker::start();
        Session::open(&broker, "publisher", |_| {}).publish("lamp", QoS::AtLeastOnce, true, "on");
        let message = Session::open(&broker, "later", |_| {}).subscribe("lamp").message(PATIENCE).unwrap();
        assert!(message.retain && message.payload == "on");
    }

    #[test]
    fn will_of_a_closed_socket() {
        let broker = Broker::start();
        let mut watcher = Session::open(&broker, "watcher", |_| {}).subscribe("status/+");
        drop(Session::open(&broker, "mortal", mortal));
        assert_eq!(watcher.message(PATIENCE).unwrap().payload, "gone");
    }

    #[test]
    fn no_will_after_disconnect() {
        let broker = Broker::start();
        let mut watcher = Session::open(&broker, "watcher", |_| {}).subscribe("status/+");
        Session::open(&broker, "mortal", mortal).disconnect();
        assert_eq!(watcher.message(A_MOMENT), None);
    }
}

mod v5 {
    use super::{Broker, PATIENCE, Transport};
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{LastWill, LastWillProperties, Packet, Publish, PublishProperties};
    use rumqttc::v5::{Client, Connection, Event, MqttOptions};
    use std::time::Duration;

    struct Session {
        client: Client,
        connection: Connection,
    }

    impl Session {
        fn open(broker: &Broker, client_id: &str, configure: impl FnOnce(&mut MqttOptions)) -> Self {
            let mut options = MqttOptions::new(client_id, "127.0.0.1", broker.port(Transport::Tcp));
            configure(&mut options);
            let (client, connection) = Client::new(options, 100);
            let mut session = Self { client, connection };
            session.wait(|event| matches!(event, Event::Incoming(Packet::ConnAck(_))));
            session
        }

        fn event(&mut self, patience: Duration) -> Option<Event> {
            let event = self.connection.recv_timeout(patience).ok()?;
            Some(event.expect("the connection holds"))
        }

        fn wait(&mut self, is_it: impl Fn(&Event) -> bool) {
            while !is_it(&self.event(PATIENCE).expect("an event in time")) {}
        }

        fn subscribe(mut self, filter: &str) -> Self {
            self.client.subscribe(filter, QoS::AtLeastOnce).unwrap();
            self.wait(|event| matches!(event, Event::Incoming(Packet::SubAck(_))));
            self
        }

        fn message(&mut self, patience: Duration) -> Option<Publish> {
            loop {
                if let Event::Incoming(Packet::Publish(publish)) = self.event(patience)? {
                    return Some(publish);
                }
            }
        }
    }

    /// A will with a delay of one second, and a session that lives for a minute.
    fn delayed(clean_start: bool) -> impl FnOnce(&mut MqttOptions) {
        let properties = LastWillProperties {
            delay_interval: Some(1),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        move |options| {
            options.set_clean_start(clean_start).set_session_expiry_interval(Some(60));
            options.set_last_will(LastWill::new("status/delayed", "gone", QoS::AtLeastOnce, false, Some(properties)));
        }
    }

    #[test]
    fn properties_travel() {
        let broker = Broker::start();
        let mut watcher = Session::open(&broker, "watcher", |_| {}).subscribe("request/+");
        let mut publisher = Session::open(&broker, "publisher", |_| {});
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let sent = PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(100),
            response_topic: Some("answers/me".to_owned()),
            correlation_data: Some(vec![0, 255, 1].into()),
            user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "3")],
            content_type: Some("text/plain".to_owned()),
            ..PublishProperties::default()
        };
        publisher
            .client
            .publish_with_properties("request/1", QoS::AtLeastOnce, false, "question", sent.clone())
            .unwrap();
        publisher.wait(|event| matches!(event, Event::Incoming(Packet::PubAck(_))));
        let got = watcher.message(PATIENCE).unwrap().properties.unwrap();
        assert!(got.message_expiry_interval.is_some_and(|left| (95..=100).contains(&left)));
        assert_eq!(PublishProperties { message_expiry_interval: Some(100), ..got }, sent);
    }

    #[test]
    fn will_delay_and_return() {
        let broker = Broker::start();
        let mut watcher = Session::open(&broker, "watcher", |_| {}).subscribe("status/+");
        drop(Session::open(&broker, "lamp", delayed(true)));
        let back = Session::open(&broker, "lamp", delayed(false));
        assert_eq!(watcher.message(Duration::from_millis(1300)), None);
        drop(back);
        assert_eq!(watcher.message(PATIENCE).unwrap().payload, "gone");
    }
}
