//! The watchdog of systemd hears from the broker.

use crate::harness::broker::{folder, program};
use crate::harness::{Broker, PATIENCE};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

#[test]
fn systemd_hears_again_and_again_that_all_shards_take_turns() {
    let folder = folder();
    let path = folder.join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let broker = Broker::start_by(folder, 2, "", |configuration| {
        let mut command = program();
        command.arg("--config").arg(configuration);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
        command
    });
    let _client = broker.client(5);
    let (begin, mut beats) = (Instant::now(), 0);
    while beats < 3 {
        assert!(begin.elapsed() < PATIENCE, "{beats} signs of life");
        let mut buffer = [0; 1024];
        let length = systemd.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        // Idle shards take part, and it is seen who is there.
        beats += usize::from(text.contains("WATCHDOG=1") && text.contains("STATUS=1 clients"));
    }
}
