//! Clients that people use, against the real broker: paho for Python, mqtt for Node and in Chromium, mosquitto_pub and mosquitto_sub, openssl, rumqttc for
//! Rust; over TCP, TLS with client certificates, WebSocket, and both.
//!
//! The same stories for each of them: messages of every QoS, retained messages, wills of processes that
//! are killed and of sockets that close, no will after `disconnect()`, and the properties of MQTT 5.0.
//! The clients of Python and Node are installed under `target/` when they are first needed.

mod broker;
mod browser;
mod certificates;
mod mosquitto;
mod node;
mod openssl;
mod paho;
mod rumqttc;
mod script;

/// One test for each story, named after it: `story => runner`.
macro_rules! stories {
    ($runner:expr; $($story:ident),+ $(,)?) => {
        $(
            #[test]
            fn $story() {
                $runner(stringify!($story));
            }
        )+
    };
}
pub(crate) use stories;
