//! mqtt (MQTT.js) for Node.

use crate::broker::{Broker, Transport};
use crate::{certificates, script};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) const VERSION: &str = "5.16.0";

/// The folder where `require("mqtt")` works.
fn installed() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| script::node_modules("mqtt-js", &[&format!("mqtt@{VERSION}")]))
}

fn play(transport: Transport, story: &str) {
    let modules = installed().join("node_modules");
    let broker = Broker::start();
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).env("CERTIFICATES", certificates::folder());
    command.arg(script::source("mqtt_stories.js")).arg(broker.url(transport)).arg(story);
    script::run(&mut command, Duration::from_secs(40)).unwrap_or_else(|error| panic!("{error}"));
}

crate::stories_over!(tcp Tcp, tls Tls, ws Ws, wss Wss);
