//! What Prometheus sees of the real binary: the text is well formed, what happens is counted once, and dashboard, alerts and reference name
//! metrics that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use willowmq::codec::{self, Packet, ProtocolVersion};

const PATIENCE: Duration = Duration::from_secs(20);
const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;

/// The broker as a process, with two shards, a journal, and its HTTP server.
struct Broker {
    child: Child,
    mqtt: SocketAddr,
    http: SocketAddr,
    folder: PathBuf,
}

impl Broker {
    fn start(settings: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("monitoring-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let config = format!(
            "shards = 2\ndata_dir = {:?}\n{settings}\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [[listeners]]\nkind = \"tcp\"\naddress = \"127.0.0.1:0\"\n",
            folder.join("data")
        );
        let path = folder.join("willowmq.toml");
        std::fs::write(&path, config).expect("the folder can be written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq"))
            .arg("--config")
            .arg(&path)
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let (mut mqtt, mut http) = (None, None);
        while let (None, _) | (_, None) = (mqtt, http) {
            let line = lines.next().expect("the broker says where it listens");
            let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            match line.contains("listening for HTTP") {
                true => http = http.or(address),
                false => mqtt = mqtt.or(address),
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        let (mqtt, http) = (mqtt.expect("found"), http.expect("found"));
        Self { child, mqtt, http, folder }
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(self.http).expect("the HTTP server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let head = head.to_lowercase();
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
        body.to_owned()
    }

    fn samples(&self) -> Samples {
        Samples::parse(&self.scrape())
    }

    fn connect(&self, client_id: &str, will: Option<&str>) -> Client {
        Client::connect(self.mqtt, client_id, will)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A client of MQTT 3.1.1 that writes its packets by hand.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// A client that is accepted; its will is an empty message of QoS 0 on the topic `will`.
    fn connect(broker: SocketAddr, client_id: &str, will: Option<&str>) -> Self {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, if will.is_some() { 0b110 } else { 0b10 }, 0, 0];
        body.extend(text(client_id));
        if let Some(topic) = will {
            body.extend(text(topic));
            body.extend(text("gone"));
        }
        let stream = TcpStream::connect(broker).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option of TCP");
        let mut client = Self { stream, unread: Vec::new() };
        client.send(0x10, &body);
        client.expect(|packet| matches!(packet, Packet::Connack(_)));
        client
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        let length = u8::try_from(body.len()).ok().filter(|length| *length < 128).expect("short packets only");
        self.stream.write_all(&[&[first, length], body].concat()).expect("the broker reads");
    }

    fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(0x82, &[&[0, 1][..], &text(filter), &[qos]].concat());
        self.expect(|packet| matches!(packet, Packet::Suback(_)));
    }

    fn publish(&mut self, topic: &str, qos: u8, payload: &str) {
        let id: &[u8] = if qos > 0 { &[0, 7] } else { &[] };
        self.send(0x30 | qos << 1, &[&text(topic), id, payload.as_bytes()].concat());
        match qos {
            0 => {}
            1 => self.expect(|packet| matches!(packet, Packet::Puback(_))),
            _ => {
                self.expect(|packet| matches!(packet, Packet::Pubrec(_)));
                self.send(0x62, &[0, 7]);
                self.expect(|packet| matches!(packet, Packet::Pubcomp(_)));
            }
        }
    }

    fn expect_message(&mut self) {
        self.expect(|packet| matches!(packet, Packet::Publish(_)));
    }

    /// Reads the next packet, which must be as said.
    fn expect(&mut self, is_expected: impl Fn(&Packet<'_>) -> bool) {
        loop {
            let length = codec::packet_length(&self.unread, 1 << 20).expect("a packet");
            if let Some(length) = length.filter(|length| *length <= self.unread.len()) {
                let packet = codec::decode(&self.unread[..length], VERSION).expect("a packet");
                assert!(is_expected(&packet), "{packet:?}");
                self.unread.drain(..length);
                return;
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).expect("the broker answers in time");
            assert!(read > 0, "the broker has closed");
            self.unread.extend_from_slice(&buffer[..read]);
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// A scrape, read line by line.
struct Samples {
    /// By metric: its type.
    types: BTreeMap<String, String>,
    /// By name and labels.
    values: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Samples {
    /// # Panics
    /// Where it is not as the format demands: help and type before the samples, samples of a metric together, nothing twice.
    fn parse(scrape: &str) -> Self {
        let mut samples = Self { types: BTreeMap::new(), values: BTreeMap::new() };
        let (mut helped, mut current) = (BTreeSet::new(), String::new());
        for line in scrape.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and a help");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
                current = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a type");
                assert_eq!(name, current, "the type stands behind the help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(samples.types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            } else {
                let (name, labels, value) = sample(line);
                let is_histogram = samples.types.get(&current).is_some_and(|kind| kind == "histogram");
                let metric = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                assert_eq!(metric.filter(|_| is_histogram).unwrap_or(&name), current, "{line}");
                assert!(samples.values.insert((name, labels), value).is_none(), "{line} is there twice");
            }
        }
        samples
    }

    /// All that have these labels, added up.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| of.get(*label).is_some_and(|found| found == value))
        };
        let matching = self.values.iter().filter(|((found, of), _)| found == name && has(of));
        let values: Vec<_> = matching.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no {name} with {labels:?}");
        values.iter().sum()
    }

    fn metrics(&self) -> BTreeSet<&str> {
        self.types.keys().map(String::as_str).collect()
    }
}

/// `name{label="value",…} number`
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
    let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), BTreeMap::new(), value) };
    let pairs = labels.strip_suffix('}').expect("the labels end").split("\",");
    let pairs = pairs.map(|pair| pair.split_once("=\"").unwrap_or_else(|| panic!("{line:?}")));
    let labels = pairs.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned())).collect();
    (name.to_owned(), labels, value)
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Words that are names of metrics.
fn names_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("willowmq_") || word.starts_with("process_")).collect()
}

/// The names of metrics in a text that can be asked for, where a histogram has three of them.
fn metrics_in<'a>(text: &'a str, samples: &Samples) -> BTreeSet<&'a str> {
    let metric = |name: &'a str| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        stem.filter(|stem| samples.types.get(*stem).is_some_and(|kind| kind == "histogram")).unwrap_or(name)
    };
    names_in(text).into_iter().map(metric).collect()
}

#[test]
fn dashboard_alerts_and_reference_name_the_metrics_that_there_are() {
    let broker = Broker::start("");
    let samples = broker.samples();
    let metrics = samples.metrics();
    for file in [
        "monitoring/dashboard.json",
        "monitoring/alerts.yml",
        "monitoring/alerts_test.yml",
        "MONITORING.md",
        "TROUBLESHOOTING.md",
        "TUNING.md",
        "WILLS.md",
    ] {
        let text = read(file);
        let named = metrics_in(&text, &samples);
        assert!(!named.is_empty());
        assert_eq!(named.difference(&metrics).collect::<Vec<_>>(), [&""; 0], "{file} names what there is not");
    }
    let guide = read("MONITORING.md");
    let rows: BTreeSet<_> = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(metrics.difference(&rows).collect::<Vec<_>>(), [&""; 0], "docs/MONITORING.md does not list them");
}

#[test]
fn each_alert_is_explained_and_seen_to_fire() {
    let (rules, tests, guide) =
        (read("monitoring/alerts.yml"), read("monitoring/alerts_test.yml"), read("MONITORING.md"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20);
    for alert in alerts {
        assert!(guide.contains(&format!("`{alert}`")), "docs/MONITORING.md does not say what to do about {alert}");
        assert!(tests.contains(alert), "no test has {alert} fire");
    }
}

#[test]
fn the_dashboard_is_json_and_each_panel_asks_for_something() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("monitoring/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{} has the id of another one", panel["title"]);
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{} is too wide", panel["title"]);
        assert!(panel["type"] == "row" || panel["targets"][0]["expr"].is_string(), "{}", panel["title"]);
    }
    assert!(panels.len() > 30);
}

/// Its subscribers and publishers are at home on both shards.
#[test]
fn messages_are_counted_once_by_qos_and_outcome_whatever_shards_they_pass() {
    let broker = Broker::start("");
    let mut subscribers: Vec<_> = (0..6).map(|number| broker.connect(&format!("subscriber-{number}"), None)).collect();
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("a/#", 2));
    let mut publishers: Vec<_> = (0..6).map(|number| broker.connect(&format!("publisher-{number}"), None)).collect();
    for publisher in &mut publishers {
        publisher.publish("a/0", 0, "12345");
        publisher.publish("a/1", 1, "123456");
        publisher.publish("b", 1, "nobody");
        publisher.publish("a/2", 2, "1234567");
    }
    for subscriber in &mut subscribers {
        (0..18).for_each(|_| subscriber.expect_message());
    }
    let samples = broker.samples();
    for (qos, bytes) in [("0", 5.0), ("1", 6.0), ("2", 7.0)] {
        let matched = [("qos", qos), ("outcome", "matched")];
        assert_eq!(samples.sum("willowmq_messages_received_total", &matched), 6.0, "QoS {qos}");
        assert_eq!(samples.sum("willowmq_messages_received_bytes_total", &matched), 6.0 * bytes, "QoS {qos}");
        assert_eq!(samples.sum("willowmq_messages_sent_total", &[("qos", qos)]), 36.0, "QoS {qos}");
        assert_eq!(samples.sum("willowmq_messages_sent_bytes_total", &[("qos", qos)]), 36.0 * bytes, "QoS {qos}");
    }
    assert_eq!(samples.sum("willowmq_messages_received_total", &[("outcome", "unmatched")]), 6.0);
    assert_eq!(samples.sum("willowmq_packets_received_total", &[("type", "PUBLISH")]), 24.0);
    assert_eq!(samples.sum("willowmq_packets_sent_total", &[("type", "PUBLISH")]), 108.0);
    assert_eq!(samples.sum("willowmq_packets_sent_total", &[("type", "PUBCOMP")]), 6.0);
    assert_eq!(samples.sum("willowmq_packets_received_total", &[("type", "CONNECT")]), 12.0);
    assert_eq!(samples.sum("willowmq_packets_sent_total", &[("type", "CONNACK")]), 12.0);
    for name in ["willowmq_connects_accepted_total", "willowmq_connections", "willowmq_sessions", "willowmq_sockets"] {
        assert_eq!(samples.sum(name, &[]), 12.0, "{name}");
        assert!(["0", "1"].iter().all(|shard| samples.sum(name, &[("shard", shard)]) > 0.0), "{name} of both shards");
    }
    assert_eq!(samples.sum("willowmq_gate_connections", &[]), 12.0);
    assert_eq!(samples.sum("willowmq_subscriptions", &[]), 6.0);
    assert_eq!(samples.sum("willowmq_messages_dropped_total", &[]), 0.0);
    assert!(samples.sum("willowmq_socket_received_bytes_total", &[]) > 24.0 * 7.0);
    assert!(samples.sum("willowmq_turn_duration_seconds_count", &[("shard", "1")]) > 0.0);
    // QoS 2 messages of publishers whose Sessions end with their connections are not kept, so the journal need not have grown by them.
    assert_eq!(samples.sum("willowmq_journal_failing", &[]), 0.0);
}

/// What the alert WillStorm looks at: while the storm goes on, or when it is over.
#[test]
fn a_storm_is_counted_with_its_wills_and_their_lateness() {
    const DEVICES: usize = 60;
    let broker = Broker::start("[wills]\nstorm_threshold_per_second = 1");
    let mut watcher = broker.connect("watcher", None);
    watcher.subscribe("gone/#", 0);
    let connect = |number| broker.connect(&format!("device-{number}"), Some(&format!("gone/{number}")));
    let devices: Vec<_> = (0..DEVICES).map(connect).collect();
    assert_eq!(broker.samples().sum("willowmq_wills", &[("state", "armed")]), DEVICES as f64);
    drop(devices);
    (0..DEVICES).for_each(|_| watcher.expect_message());
    let end = Instant::now() + PATIENCE;
    let samples = loop {
        let samples = broker.samples();
        let wills = samples.sum("willowmq_will_storm_wills_total", &[]);
        let going_on = samples.sum("willowmq_will_storm_in_progress_wills", &[]);
        assert_eq!(wills + going_on, DEVICES as f64, "a will belongs to the storm while it goes on, and afterwards");
        if going_on == 0.0 {
            break samples;
        }
        assert!(Instant::now() < end, "the storm does not end");
        std::thread::sleep(Duration::from_millis(50)); // It is over when there was no will for a second.
    };
    assert!(samples.sum("willowmq_will_storms_total", &[]) >= 2.0, "one on each shard");
    assert_eq!(samples.sum("willowmq_wills_published_total", &[("cause", "closed")]), DEVICES as f64);
    assert_eq!(samples.sum("willowmq_will_lateness_seconds_count", &[]), DEVICES as f64);
    let lateness = samples.sum("willowmq_will_lateness_seconds_sum", &[]);
    assert!(lateness <= samples.sum("willowmq_will_lateness_max_seconds", &[]) * DEVICES as f64, "{lateness}");
    assert_eq!(samples.sum("willowmq_wills", &[]), 0.0, "none is left");
    assert!(samples.sum("willowmq_will_last_storm_timestamp_seconds", &[("shard", "0")]) > 1.6e9);
}

/// Runs promtool in the folder of the rules; it says nothing where all is well.
fn promtool(arguments: &[&str], input: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring");
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs promtool, which is in Debian's package prometheus");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
    said
}

#[test]
fn promtool_has_nothing_to_say_against_metrics_and_rules() {
    let broker = Broker::start("");
    assert_eq!(promtool(&["check", "metrics"], &broker.scrape()), "");
    promtool(&["check", "rules", "--lint-fatal", "alerts.yml"], "");
    promtool(&["check", "config", "--lint-fatal", "prometheus.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");
}
