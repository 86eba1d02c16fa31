//! mqtt (MQTT.js) in headless Chromium: the pages of `docs/camera`.

use crate::broker::{Broker, Transport};
use crate::script;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const PLAYWRIGHT: &str = "1.65.1";

/// Where the pages are served, which the broker has to know as their origin.
struct Site {
    port: u16,
}

impl Site {
    /// A port that is free now.
    fn choose() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port }
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A folder where `require("playwright-core")` works, with mqtt for Node beside it.
fn modules() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        script::node_modules(
            "browser",
            &[&format!("playwright-core@{PLAYWRIGHT}"), &format!("mqtt@{}", crate::node::VERSION)],
        )
    })
}

/// The browser; installed where it is missing and may be.
fn chromium() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| script::program(&["chromium", "chromium-browser", "google-chrome"], "chromium"))
}

fn play(transport: Transport, story: &str, origins: fn(&Site) -> Vec<String>) {
    let site = Site::choose();
    let broker = Broker::with_origins(&origins(&site));
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules().join("node_modules")).env("FOLDER", modules()).env("CHROMIUM", chromium());
    command.arg(script::source("browser_stories.js"));
    command.args([broker.url(transport), site.port.to_string(), story.to_owned()]);
    script::run(&mut command, Duration::from_secs(90)).unwrap_or_else(|error| panic!("{error}"));
}

mod ws {
    fn play(story: &str) {
        super::play(super::Transport::Ws, story, |site| vec![site.origin()]);
    }

    crate::stories!(play; camera_that_vanishes, camera_that_comes_back, camera_that_is_switched_off);
}

mod wss {
    fn play(story: &str) {
        super::play(super::Transport::Wss, story, |site| vec![site.origin()]);
    }

    crate::stories!(play; camera_that_vanishes, camera_that_comes_back, camera_that_is_switched_off);
}

mod elsewhere {
    fn play(story: &str) {
        super::play(super::Transport::Ws, story, |_| vec!["https://example.org".to_owned()]);
    }

    crate::stories!(play; page_from_elsewhere);
}

mod unlisted {
    /// Without a list, a page has to come from the broker's own host and port.
    fn play(story: &str) {
        super::play(super::Transport::Ws, story, |_| Vec::new());
    }

    crate::stories!(play; page_from_elsewhere);
}
