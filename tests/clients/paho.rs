//! paho-mqtt for Python, in the version that most scripts were written for and in the newest.

use crate::broker::{Broker, Transport};
use crate::{certificates, script};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The interpreter of a virtual environment that has this version of paho-mqtt.
fn interpreter(version: &str) -> PathBuf {
    let folder = script::folder(&format!("paho-{version}"));
    let python = folder.join("bin/python");
    let check = format!("import importlib.metadata as m; assert m.version('paho-mqtt') == '{version}'");
    let is_there = || script::run(Command::new(&python).args(["-c", &check]), Duration::from_secs(20)).is_ok();
    if !is_there() {
        let install = |command: &mut Command| {
            script::run(command, Duration::from_secs(180))
                .unwrap_or_else(|error| panic!("paho-mqtt {version} cannot be installed: {error}"));
        };
        install(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let package = format!("paho-mqtt=={version}");
        install(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            &package,
        ]));
        assert!(is_there(), "paho-mqtt {version} was installed, but cannot be imported");
    }
    python
}

fn play(python: &PathBuf, transport: Transport, story: &str) {
    let broker = Broker::start();
    let mut command = Command::new(python);
    command.env("CERTIFICATES", certificates::folder());
    command.arg(script::source("paho_stories.py")).arg(broker.url(transport)).arg(story);
    script::run(&mut command, Duration::from_secs(40)).unwrap_or_else(|error| panic!("{error}"));
}

mod paho_1_6 {
    use super::Transport;

    fn play(transport: Transport, story: &str) {
        static PYTHON: super::OnceLock<super::PathBuf> = super::OnceLock::new();
        super::play(PYTHON.get_or_init(|| super::interpreter("1.6.1")), transport, story);
    }

    mod tcp {
        fn play(story: &str) {
            super::play(super::Transport::Tcp, story);
        }

        crate::stories!(
            play;
            messages_of_every_qos, retained_message, will_of_a_killed_process, will_of_a_closed_socket,
            no_will_after_disconnect, session_keeps_messages, will_delay_and_takeover, will_delay_and_return,
            properties_travel, device_status_script, device_status_script_that_disconnects,
        );
    }

    mod tls {
        fn play(story: &str) {
            super::play(super::Transport::Tls, story);
        }

        crate::stories!(
            play;
            messages_of_every_qos, will_of_a_killed_process, will_of_a_closed_socket, no_will_after_disconnect,
            will_delay_and_return,
        );
    }
}

mod paho_2 {
    use super::Transport;

    fn play(transport: Transport, story: &str) {
        static PYTHON: super::OnceLock<super::PathBuf> = super::OnceLock::new();
        super::play(PYTHON.get_or_init(|| super::interpreter("2.1.0")), transport, story);
    }

    crate::stories_over!(tcp Tcp, tls Tls, ws Ws, wss Wss);
}
