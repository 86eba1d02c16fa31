//! mqtt (MQTT.js) for Node.

use crate::broker::Broker;
use crate::script;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const VERSION: &str = "5.16.0";

/// The folder where `require("mqtt")` works.
fn installed() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = script::folder(&format!("mqtt-js-{VERSION}"));
        if !folder.join("node_modules/mqtt/package.json").exists() {
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]).arg(&folder);
            script::run(npm.arg(format!("mqtt@{VERSION}")), Duration::from_secs(180))
                .unwrap_or_else(|error| panic!("mqtt for Node cannot be installed: {error}"));
        }
        folder
    })
}

fn play(story: &str) {
    let modules = installed().join("node_modules");
    let broker = Broker::start();
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(script::source("mqtt_stories.js")).arg(broker.port.to_string()).arg(story);
    script::run(&mut command, Duration::from_secs(40)).unwrap_or_else(|error| panic!("{error}"));
}

crate::stories!(
    play;
    messages_of_every_qos, retained_message, will_of_a_killed_process, will_of_a_closed_socket,
    no_will_after_disconnect, session_keeps_messages, will_delay_and_takeover, will_delay_and_return,
    properties_travel,
);
