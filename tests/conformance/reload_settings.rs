//! Settings that change while the broker runs.

use crate::harness::broker::{folder, program};
use crate::harness::passwords::{PASSWORD, authenticator, connect_as};
use crate::harness::transport::{Kind, Stream, tls_clients_of};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, secs, unique};
use crate::listeners::passed;
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const RELOADED: &str = "reloaded the settings and the files that they name";
const REFUSED: &str = "nothing was reloaded, all is as it was";

/// A listener beside that of the harness, at an address which that one does not have.
const BESIDE: &str = "[[listeners]]\naddress = \"127.0.0.2:0\"\nanonymous = true\n";

/// Asks for other settings; the new lines of the log, once the broker has taken them over or has not.
fn reload(broker: &Broker, settings: &str) -> String {
    broker.write_settings(2, settings);
    hang_up(broker)
}

fn hang_up(broker: &Broker) -> String {
    let before = broker.log().len();
    broker.signal(Signal::HUP);
    let end = Instant::now() + PATIENCE;
    loop {
        let new = broker.log()[before..].to_owned();
        if new.contains(RELOADED) || new.contains(REFUSED) {
            return new;
        }
        assert!(Instant::now() < end, "nothing about a reload in the log");
        std::thread::sleep(std::time::Duration::from_millis(5)); // It comes through a pipe and a thread.
    }
}

/// Reloads, and fails unless the broker takes it over.
fn take_over(broker: &Broker, settings: &str) -> String {
    let lines = reload(broker, settings);
    assert!(lines.contains(RELOADED), "{lines}");
    lines
}

/// The address that a new listener tells.
fn address_in(lines: &str) -> SocketAddr {
    let line = lines.lines().find(|line| line.contains("listening for MQTT")).expect("a listener has opened");
    let (_, rest) = line.split_once("address=").expect("it has an address");
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn client_at(address: SocketAddr) -> Client {
    let mut client = Client::open(address, 5);
    assert_eq!(client.try_connect(&Connect::v5(&unique("c"))), Some(0));
    client
}

/// Waits until nobody listens at an address.
fn await_closed(address: SocketAddr) {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < end, "somebody still listens");
    }
}

/// Whether two clients hear each other.
fn assert_they_talk(one: &mut Client, other: &mut Client) {
    let topic = unique("talk");
    other.subscribe(&topic, 1);
    one.publish(Publish::new(&topic, "hello").qos(1));
    assert_eq!(other.message().text(), "hello");
}

#[test]
fn listener_is_added_while_clients_are_connected() {
    let broker = Broker::start("");
    let mut before = broker.client(5);
    let lines = take_over(&broker, BESIDE);
    assert!(lines.contains("key=\"listeners.0\" old=\"unset\" new=\"{ kind = \\\"tcp\\\", address ="), "{lines}");
    let address = address_in(&lines);
    // As many as come to every shard, and go to every other one.
    let mut clients: Vec<_> = (0..20).map(|_| client_at(address)).collect();
    clients.iter_mut().for_each(|client| assert_they_talk(client, &mut before));
    broker.client(5).ping();
}

#[test]
fn listener_is_removed_and_its_connections_stay() {
    let broker = Broker::start(BESIDE);
    let mut there = client_at(broker.addresses[0]);
    let mut beside = Client::open(broker.last_address(), 5);
    assert_eq!(beside.try_connect(&Connect::v5(&unique("c"))), Some(0));
    let lines = take_over(&broker, "");
    assert!(lines.contains("no longer listening"), "{lines}");
    await_closed(broker.addresses[0]);
    assert_they_talk(&mut there, &mut beside);
    // It comes back, with other settings, which are those of who comes now.
    let lines = take_over(&broker, &format!("{BESIDE}[listeners.limits]\nreceive_maximum = 7\n"));
    let mut back = client_at(address_in(&lines));
    assert_they_talk(&mut there, &mut back);
    there.ping();
}

#[test]
fn listener_at_the_same_place_goes_on_with_other_settings_for_those_who_come() {
    let folder = folder();
    let users = authenticator(&folder, &["anna"]);
    let broker = Broker::start_in(folder, 2, BESIDE);
    let address = broker.addresses[0];
    let mut anonymous = client_at(address);
    take_over(&broker, &format!("{users}{}", BESIDE.replace("true", "false")));
    assert_eq!(Client::open(address, 5).try_connect(&Connect::v5("nobody")), Some(0x87));
    let mut anna = Client::open(address, 5);
    assert_eq!(anna.try_connect(&connect_as(5, "anna", PASSWORD)), Some(0));
    assert_they_talk(&mut anonymous, &mut anna);
    take_over(&broker, BESIDE);
    assert_they_talk(&mut client_at(address), &mut anna);
}

#[test]
fn listener_moves_from_one_address_to_all_at_the_same_port() {
    let broker = Broker::start(BESIDE);
    let mut before = client_at(broker.addresses[0]);
    let port = broker.addresses[0].port();
    take_over(&broker, &BESIDE.replace("127.0.0.2:0", &format!("0.0.0.0:{port}")));
    let mut after = client_at(SocketAddr::from(([127, 0, 0, 3], port)));
    assert_they_talk(&mut before, &mut after);
}

#[test]
fn limits_change_for_those_who_come_and_as_far_as_nobody_was_told_for_those_who_are_there() {
    let broker = Broker::start("");
    let [mut told, mut deep, mut fast] = [(); 3].map(|()| broker.client(5));
    let lines = take_over(
        &broker,
        "[limits]\npacket_bytes_max = \"1KiB\"\ntopic_levels_max = 3\nmaximum_qos = 0\nreceive_maximum = 9\n\
         publish_rate_max = 1000\n[features]\nretain = false\n",
    );
    assert!(lines.contains("key=\"limits.topic_levels_max\" old=\"128\" new=\"3\""), "{lines}");
    assert!(lines.contains("changed=6 needs_restart=0"), "{lines}");
    let large = "x".repeat(4000);
    assert_eq!(told.publish(Publish::new("told", &large).qos(1).retain()), 0x10, "nobody has subscribed");
    deep.publish_only(&Publish::new("a/b/c/d", "x"));
    deep.expect_disconnect(&[0x90]);
    fast.ping();
    let fresh = broker.client(5);
    let said = format!("{:?}", fresh.connack);
    for words in [
        "id: 39, value: FourBytes(1024)",
        "id: 33, value: TwoBytes(9)",
        "id: 36, value: Byte(0)",
        "id: 37, value: Byte(0)",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let mut large_one = broker.client(5);
    large_one.publish_only(&Publish::new("told", &large));
    large_one.expect_disconnect(&[0x95]);
}

#[test]
fn broken_settings_change_nothing_and_are_told_with_their_line() {
    let broker = Broker::start("");
    let mut client = broker.client(5);
    for (settings, words) in [
        (format!("[limits]\ntopic_levels_max = 3\ntopic_levls_max = 4\n{BESIDE}"), "willowmq.toml:5: "),
        (
            format!("[limits]\ntopic_levels_max = 3\n[security]\nrights_file = \"/none/rights\"\n{BESIDE}"),
            "/none/rights",
        ),
        (
            format!(
                "[limits]\ntopic_levels_max = 3\n{BESIDE}[[listeners]]\nkind = \"tls\"\naddress = \"127.0.0.3:0\"\n\
                 certificates = [\"/none/cert\"]\nkeys = [\"/none/key\"]\n"
            ),
            "/none/cert",
        ),
        (
            format!(
                "[limits]\ntopic_levels_max = 3\n{BESIDE}[[authenticators]]\nname = \"a\"\nfile = \"/none/users\"\n"
            ),
            "/none/users",
        ),
        (
            format!(
                "[limits]\ntopic_levels_max = 3\n{BESIDE}[[listeners]]\nkind = \"unix\"\npath = \"/none/socket\"\n\
                 anonymous = true\n"
            ),
            "/none",
        ),
        ("[limits]\ntopic_levels_max = 3\nconnections_max = 100000000\n".to_owned(), "the limit on open files"),
    ] {
        let lines = reload(&broker, &settings);
        assert!(lines.contains(REFUSED) && lines.contains(words), "{words}: {lines}");
        assert!(!lines.contains("listening for MQTT"), "{lines}");
        assert_eq!(client.publish(Publish::new("a/b/c/d", "x").qos(1)), 0x10);
    }
    take_over(&broker, "[limits]\ntopic_levels_max = 3\n");
    client.publish_only(&Publish::new("a/b/c/d", "x"));
    client.expect_disconnect(&[0x90]);
}

#[test]
fn settings_that_need_a_restart_are_told_and_all_others_are_taken_over() {
    let broker = Broker::start("");
    let journal = "durability = \"memory\"\n[journal]\nsegment_bytes = \"2MiB\"\n[limits]\nclient_id_bytes_max = 23\n";
    broker.write_settings(1, journal);
    for _ in 0..2 {
        let lines = hang_up(&broker);
        for (key, old, new) in [
            ("shards", "2", "1"),
            ("durability", "\\\"sync\\\"", "\\\"memory\\\""),
            ("journal.segment_bytes", "\\\"64MiB\\\"", "\\\"2MiB\\\""),
        ] {
            let line = format!("a setting needs a restart to change key=\"{key}\" old=\"{old}\" new=\"{new}\"");
            assert!(lines.contains(&line), "{line}: {lines}");
        }
        assert!(lines.contains("needs_restart=3"), "they wait as long as there is no restart: {lines}");
        let too_long = Connect::v5(&"x".repeat(24));
        assert_eq!(broker.refuse(too_long).reason, 0x85);
    }
}

#[test]
fn level_of_the_log_changes_after_that_was_told() {
    let broker = Broker::start("");
    let lines = take_over(&broker, "[log]\nlevel = \"warn\"\n");
    assert!(lines.contains("key=\"log.level\" old=\"\\\"info\\\"\" new=\"\\\"warn\\\"\""), "{lines}");
    let before = broker.log().len();
    broker.write_settings(1, "[log]\nlevel = \"info\"\n");
    broker.signal(Signal::HUP);
    broker.await_log("a setting needs a restart to change key=\"shards\"", PATIENCE);
    assert!(!broker.log()[before..].contains("INFO"), "{}", broker.log());
    assert!(reload(&broker, "[log]\nlevel = \"loud\"\n").contains(REFUSED));
    take_over(&broker, "");
}

/// A certificate for 127.0.0.2 in `folder`, and the listener that shows it.
fn tls(folder: &Path) -> (CertificateDer<'static>, String) {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.2".to_owned()]).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    fs::write(&cert, issued.cert.pem()).unwrap();
    fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let of_tls = format!("{BESIDE}kind = \"tls\"\ncertificates = [{cert:?}]\nkeys = [{key:?}]\n");
    (CertificateDer::from_pem_slice(issued.cert.pem().as_bytes()).unwrap(), of_tls)
}

fn client_over_tls(address: SocketAddr, certificate: &CertificateDer<'static>) -> Client {
    let socket = TcpStream::connect(address).unwrap();
    let stream = Stream::over(Kind::Tls, socket, &tls_clients_of(certificate.clone())).expect("TLS is spoken");
    let mut client = Client::of(stream, 5);
    assert_eq!(client.try_connect(&Connect::v5(&unique("c"))), Some(0));
    client
}

#[test]
fn listener_for_tls_is_added_and_takes_the_place_of_one_without() {
    let folder = folder();
    let (certificate, of_tls) = tls(&folder);
    let broker = Broker::start_in(folder, 2, "");
    let lines = take_over(&broker, &of_tls);
    let address = address_in(&lines);
    let mut secure = client_over_tls(address, &certificate);
    let mut plain = broker.client(5);
    assert_they_talk(&mut secure, &mut plain);
    take_over(&broker, BESIDE);
    assert_they_talk(&mut client_at(address), &mut secure);
    let lines = take_over(&broker, &of_tls);
    assert!(lines.contains("key=\"listeners.0.kind\" old=\"\\\"tcp\\\"\" new=\"\\\"tls\\\"\""), "{lines}");
    assert_they_talk(&mut client_over_tls(address, &certificate), &mut secure);
}

#[test]
fn unix_socket_is_added_and_changed_and_removed_with_its_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.join("mqtt.sock");
    let of_unix = format!("[[listeners]]\nkind = \"unix\"\npath = {path:?}\nmode = \"0600\"\nanonymous = true\n");
    let broker = Broker::start_in(folder, 2, "");
    take_over(&broker, &of_unix);
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let mut there = Client::connect_at(&path, &Connect::v5(&unique("c")));
    take_over(&broker, &of_unix.replace("0600", "0620"));
    assert_eq!(mode(), 0o620);
    take_over(&broker, "");
    assert!(!path.exists());
    assert!(UnixStream::connect(&path).is_err());
    assert_they_talk(&mut there, &mut broker.client(5));
    take_over(&broker, &of_unix);
    assert_they_talk(&mut there, &mut Client::connect_at(&path, &Connect::v5(&unique("c"))));
}

#[test]
fn socket_of_systemd_comes_back_and_is_not_used_up_by_a_reload_that_fails() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let broker = Broker::start_by(folder(), 2, "", |configuration| passed(socket.into(), "mqtt", configuration));
    let of_systemd = "[[listeners]]\nsystemd = \"mqtt\"\nanonymous = true\n";
    let with_another = format!("{of_systemd}[[listeners]]\nsystemd = \"other\"\nanonymous = true\n");
    for _ in 0..2 {
        let told = reload(&broker, &with_another);
        assert!(told.contains(REFUSED) && told.contains("no socket of this name"), "{told}");
        take_over(&broker, of_systemd);
        let mut there = client_at(address);
        take_over(&broker, "");
        assert_they_talk(&mut there, &mut broker.client(5));
    }
    let told = reload(&broker, &format!("{of_systemd}kind = \"unix\"\n"));
    assert!(told.contains(REFUSED) && told.contains("a Unix stream socket"), "{told}");
}

#[test]
fn file_that_is_no_configuration_any_more_changes_nothing() {
    let broker = Broker::start("");
    let mut client = broker.client(5);
    let file = broker.data().with_file_name("willowmq.toml");
    let refused = |what: &str| {
        let told = hang_up(&broker);
        assert!(told.contains(REFUSED) && told.contains(what), "{told}");
    };
    for (text, told) in [(&b""[..], "is empty"), (b" \n", "is empty"), (b"\xff\n", "is not UTF-8")] {
        fs::write(&file, text).unwrap();
        refused(told);
    }
    fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
    refused("longer than 4 MiB");
    fs::remove_file(&file).unwrap();
    refused("cannot read");
    fs::create_dir(&file).unwrap();
    refused("cannot read");
    fs::remove_dir(&file).unwrap();
    take_over(&broker, BESIDE);
    assert_they_talk(&mut client, &mut broker.client(5));
}

#[test]
fn hangups_without_end_neither_keep_the_broker_busy_nor_from_stopping_in_order() {
    for _ in 0..3 {
        let mut broker = Broker::start("");
        let paths = ["one", "two"].map(|name| broker.data().with_file_name(name));
        let of_unix = |path: &Path| format!("[[listeners]]\nkind = \"unix\"\npath = {path:?}\nanonymous = true\n");
        let hang_up = |round: usize| {
            broker.write_settings(2, &of_unix(&paths[round % 2]));
            broker.signal(Signal::HUP);
        };
        (0..300).for_each(hang_up);
        broker.signal(Signal::TERM);
        (0..300).for_each(hang_up);
        assert!(broker.wait(PATIENCE).success(), "{}", broker.log());
        assert!(paths.iter().all(|path| !path.exists()), "files of sockets go with the broker");
    }
}

#[test]
fn hangups_under_load_lose_no_connection_and_no_message() {
    let broker = Broker::start("");
    let mut subscriber = broker.client(5);
    subscriber.subscribe("load/#", 1);
    let mut publishers: Vec<_> = (0..8).map(|_| broker.client(5)).collect();
    for round in 0..20 {
        let settings = match round % 3 {
            0 => BESIDE.to_owned(),
            1 => format!("[limits]\noutput_bytes_max = \"{}KiB\"\n", 64 + round),
            _ => "[sessions]\nqueue_messages_max = 5000\n".to_owned(),
        };
        broker.write_settings(2, &settings);
        broker.signal(Signal::HUP);
        for (number, publisher) in publishers.iter_mut().enumerate() {
            for part in 0..5 {
                let text = format!("{number} {round} {part}");
                assert!(publisher.publish(Publish::new(&format!("load/{number}"), &text).qos(1)) < 0x80);
            }
        }
        let mut received = subscriber.payloads(publishers.len() * 5);
        received.sort_unstable();
        let mut sent: Vec<_> =
            (0..publishers.len()).flat_map(|n| (0..5).map(move |part| format!("{n} {round} {part}"))).collect();
        sent.sort_unstable();
        assert_eq!(received, sent);
    }
    assert!(!hang_up(&broker).contains(REFUSED));
    publishers.iter_mut().for_each(Client::ping);
}

#[test]
fn a_hundred_reloads_leave_no_descriptor_behind() {
    let folder = folder();
    let users = authenticator(&folder, &["anna"]);
    let (_, of_tls) = tls(&folder);
    let broker = Broker::start_in(folder, 2, "");
    let mut client = broker.client(5);
    take_over(&broker, "");
    let before = broker.descriptors();
    for round in 0..50 {
        let settings = format!("[security]\ncheck_threads = {}\n{users}{of_tls}", 1 + round % 3);
        take_over(&broker, &settings);
        take_over(&broker, "");
    }
    let end = Instant::now() + PATIENCE;
    while broker.descriptors() > before {
        assert!(Instant::now() < end, "{} descriptors, {before} before", broker.descriptors());
        std::thread::sleep(std::time::Duration::from_millis(5)); // The kernel closes them a moment later.
    }
    client.ping();
}

#[test]
fn systemd_is_told_when_a_reload_begins_and_ends() {
    let folder = folder();
    let path = folder.join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let command = |configuration: &Path| -> Command {
        let mut command = program();
        command.arg("--config").arg(configuration).env("NOTIFY_SOCKET", &path);
        command
    };
    let broker = Broker::start_by(folder, 1, "", command);
    let told = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let await_told = |words: &str| {
        let end = Instant::now() + secs(10);
        loop {
            let told = told();
            if told.contains(words) {
                return told;
            }
            assert!(Instant::now() < end, "nothing of {words}");
        }
    };
    await_told("READY=1");
    broker.write_settings(1, "");
    broker.signal(Signal::HUP);
    let told = await_told("RELOADING=1");
    let micros = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("it says when");
    assert!(micros.parse::<u64>().unwrap() > 0);
    await_told("READY=1");
}
