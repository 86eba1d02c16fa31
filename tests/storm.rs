//! Fifteen thousand devices with wills are reset at once, on the real binary with default settings: each will arrives exactly once, at a watcher
//! that reads and at one that is slow.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEVICES: usize = 15_000;
const PATIENCE: Duration = Duration::from_secs(120);

struct Broker {
    child: Child,
    address: SocketAddr,
    data: PathBuf,
}

impl Broker {
    fn start() -> Self {
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("storm-{}", std::process::id()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq"))
            .args(["--listen", "127.0.0.1:0", "--shards", "2", "--data-dir"])
            .arg(&data)
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok())
            .expect("the broker says where it listens");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, address, data }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

fn raise_the_limit_of_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("soft up to hard");
    let wanted = DEVICES as u64 + 200;
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "this test opens {wanted} files, and the hard limit is {:?}: raise it with `ulimit -Hn`",
        limit.maximum
    );
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "one byte of length is enough here");
    let mut bytes = vec![first, body.len() as u8];
    bytes.extend_from_slice(body);
    bytes
}

fn connect(client_id: &str, will_topic: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, "MQTT");
    body.extend_from_slice(&[4, 0x02 | if will_topic.is_some() { 0x04 | 0x08 } else { 0 }, 0, 0]);
    string(&mut body, client_id);
    if let Some(topic) = will_topic {
        string(&mut body, topic);
        string(&mut body, "offline");
    }
    packet(0x10, &body)
}

fn expect_bytes(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).expect("the broker answers");
    assert_eq!(bytes, expected);
}

/// Subscribes to the wills with QoS 1 and acknowledges each.
struct Watcher {
    stream: TcpStream,
    buffer: Vec<u8>,
    pause: Duration,
    topics: HashSet<String>,
}

impl Watcher {
    fn new(broker: &Broker, name: &str, pause: Duration) -> Self {
        let mut stream = TcpStream::connect(broker.address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.write_all(&connect(name, None)).expect("it is connected");
        expect_bytes(&mut stream, &[0x20, 2, 0, 0]);
        let mut body = vec![0, 1];
        string(&mut body, "status/+");
        body.push(1);
        stream.write_all(&packet(0x82, &body)).expect("it is connected");
        expect_bytes(&mut stream, &[0x90, 3, 0, 1, 1]);
        Self { stream, buffer: Vec::new(), pause, topics: HashSet::new() }
    }

    fn read_all(mut self) -> HashSet<String> {
        let end = Instant::now() + PATIENCE;
        let mut chunk = [0; 4096];
        while self.topics.len() < DEVICES {
            assert!(Instant::now() < end, "{} of {DEVICES} wills came", self.topics.len());
            let count = self.stream.read(&mut chunk).expect("wills come");
            assert!(count > 0, "the broker closed after {} wills", self.topics.len());
            self.buffer.extend_from_slice(&chunk[..count]);
            self.take_packets();
            std::thread::sleep(self.pause); // How a slow reader reads; nothing is waited for.
        }
        // A will that came twice would stand before the answer to this.
        self.stream.write_all(&[0xC0, 0]).expect("it is connected");
        while !self.buffer.starts_with(&[0xD0, 0]) {
            let count = self.stream.read(&mut chunk).expect("PINGRESP comes");
            self.buffer.extend_from_slice(&chunk[..count]);
            self.take_packets();
        }
        self.topics
    }

    fn take_packets(&mut self) {
        let mut acknowledgements = Vec::new();
        let mut at = 0;
        while let [first, length, rest @ ..] = &self.buffer[at..] {
            if first >> 4 != 3 || rest.len() < usize::from(*length) {
                break;
            }
            let body = &rest[..usize::from(*length)];
            let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            let topic = String::from_utf8(body[2..topic_end].to_vec()).expect("topics are UTF-8");
            assert_eq!(&body[topic_end + 2..], b"offline");
            acknowledgements.extend_from_slice(&[0x40, 2, body[topic_end], body[topic_end + 1]]);
            assert!(self.topics.insert(topic.clone()), "the will on {topic} came twice");
            at += 2 + usize::from(*length);
        }
        self.buffer.drain(..at);
        self.stream.write_all(&acknowledgements).expect("it is connected");
    }
}

#[test]
fn fifteen_thousand_wills_arrive_exactly_once_at_a_quick_and_at_a_slow_watcher() {
    raise_the_limit_of_open_files();
    let broker = Broker::start();
    let watchers = [("quick", Duration::ZERO), ("slow", Duration::from_millis(2))]
        .map(|(name, pause)| Watcher::new(&broker, name, pause));
    let mut devices: Vec<TcpStream> = Vec::with_capacity(DEVICES);
    for index in 0..DEVICES {
        let device = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        device.set_linger(Some(Duration::ZERO)).expect("closing shall reset");
        device.connect(&broker.address.into()).expect("the broker listens");
        let mut device = TcpStream::from(device);
        let name = format!("device-{index}");
        device.write_all(&connect(&name, Some(&format!("status/{name}")))).expect("it is connected");
        devices.push(device);
    }
    for device in &mut devices {
        expect_bytes(device, &[0x20, 2, 0, 0]);
    }
    let readers = watchers.map(|watcher| std::thread::spawn(move || watcher.read_all()));
    drop(devices);
    for reader in readers {
        assert_eq!(reader.join().expect("the watcher is content").len(), DEVICES);
    }
}
