//! Where the broker can be reached: IPv4 and IPv6, Unix sockets, and sockets that systemd has opened.

use crate::harness::broker::{DATA, folder, program, run};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, unique};
use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("mqtt.sock")
}

fn unix_listener(path: &Path) -> String {
    format!("[[listeners]]\nkind = \"unix\"\npath = {path:?}\nmode = \"0620\"\nanonymous = true\n")
}

/// A broker with a Unix socket beside the listener of the harness.
fn with_unix_socket(shards: u16) -> (Broker, PathBuf) {
    let folder = folder();
    let path = socket_in(&folder);
    (Broker::start_in(folder, shards, &unix_listener(&path)), path)
}

fn client_at(path: &Path) -> Client {
    Client::connect_at(path, &Connect::new(5, &unique("c")))
}

#[test]
fn clients_on_a_unix_socket_and_on_tcp_hear_each_other() {
    let (broker, path) = with_unix_socket(2);
    let (mut on_unix, mut on_tcp) = (client_at(&path), broker.client(5));
    on_unix.subscribe("to/unix", 1);
    on_tcp.subscribe("to/tcp", 1);
    on_unix.publish(Publish::new("to/tcp", "a").qos(1));
    on_tcp.publish(Publish::new("to/unix", "b").qos(2));
    assert_eq!((on_tcp.message().text(), on_unix.message().text()), ("a".into(), "b".into()));
}

#[test]
fn every_connection_to_a_socket_that_shards_share_is_served() {
    let (_broker, path) = with_unix_socket(4);
    let mut clients: Vec<_> = (0..200).map(|_| client_at(&path)).collect();
    clients.iter_mut().for_each(Client::ping);
}

#[test]
fn will_on_a_unix_socket_is_published_when_the_client_is_gone() {
    let (broker, path) = with_unix_socket(2);
    let mut watcher = broker.client(5);
    watcher.subscribe("status", 1);
    let will = crate::harness::Will::new("status", "offline");
    Client::connect_at(&path, &Connect::new(5, &unique("c")).will(will)).cut();
    assert_eq!(watcher.message().text(), "offline");
}

#[test]
fn unix_socket_has_its_mode_and_goes_with_the_broker() {
    let (mut broker, path) = with_unix_socket(2);
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o620);
    assert!(broker.log().contains("listening for MQTT over a Unix socket"), "{}", broker.log());
    broker.signal(Signal::TERM);
    assert!(broker.wait(PATIENCE).success());
    assert!(!path.exists());
}

#[test]
fn unix_socket_of_a_broker_that_was_killed_is_replaced() {
    let (broker, path) = with_unix_socket(2);
    let mut broker = broker;
    let folder = broker.kill();
    assert!(path.exists());
    let _broker = Broker::start_in(folder, 2, &unix_listener(&path));
    client_at(&path).ping();
}

#[test]
fn second_broker_at_the_same_path_does_not_start() {
    let (_broker, path) = with_unix_socket(2);
    let output = run(&format!("shards = 1\n{}", unix_listener(&path)), &[], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains(&path.display().to_string()), "{told}");
    client_at(&path).ping();
}

#[test]
fn path_of_something_else_than_a_socket_stops_the_start() {
    let folder = folder();
    let path = socket_in(&folder);
    fs::write(&path, "precious").unwrap();
    let output = run(&format!("shards = 1\n{}", unix_listener(&path)), &[], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn ipv6_and_ipv4_are_listeners_of_their_own() {
    let broker = Broker::start("[[listeners]]\naddress = \"[::1]:0\"\n");
    assert!(broker.address.is_ipv6());
    let other = broker.last_address();
    assert!(other.is_ipv4());
    for address in [broker.address, other] {
        let mut client = Client::open(address, 5);
        assert_eq!(client.try_connect(&Connect::new(5, &unique("c"))), Some(0));
    }
}

#[test]
fn anonymous_listener_beyond_loopback_is_warned_of_once() {
    let broker = Broker::start("[[listeners]]\naddress = \"0.0.0.0:0\"\nanonymous = true\n");
    broker.last_address();
    let log = broker.log();
    assert_eq!(log.matches("may connect without credentials").count(), 1, "{log}");
}

/// The program, to which a socket is passed as systemd does: descriptor 3, and a process that knows that it is meant. A shell
/// replaces itself by the program, so the process remains the same.
pub(crate) fn passed(socket: OwnedFd, names: &str, configuration: &Path) -> Command {
    let program = program();
    let mut shell = Command::new("sh");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 0</dev/null"]);
    shell.arg(program.get_program()).arg("--config").arg(configuration).env("LISTEN_FDNAMES", names);
    shell.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
    shell
}

/// Starts a broker with a passed socket of this name, for a listener with these settings.
fn start_passed(socket: OwnedFd, name: &str, settings: &str) -> Broker {
    let settings = format!("[[listeners]]\nsystemd = \"mqtt\"\nanonymous = true\n{settings}");
    Broker::start_by(folder(), 2, &settings, |configuration| passed(socket, name, configuration))
}

/// What a broker says that does not start with a passed socket of this name.
fn refused_passed(socket: OwnedFd, name: &str) -> String {
    let folder = folder();
    let configuration = folder.join("willowmq.toml");
    let data = folder.join(DATA);
    let settings = format!("shards = 1\ndata_dir = {data:?}\n[[listeners]]\nsystemd = \"mqtt\"\nanonymous = true\n");
    fs::write(&configuration, settings).unwrap();
    let output = passed(socket, name, &configuration).output().unwrap();
    fs::remove_dir_all(folder).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{told}");
    told
}

#[test]
fn tcp_socket_that_systemd_has_opened_is_served_by_all_shards() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let waiting: Vec<_> = (0..5).map(|_| Client::open(address, 5)).collect(); // Before there is any broker.
    let broker = start_passed(socket.into(), "mqtt", "");
    assert!(broker.log().contains(&format!("local=\"{address}\"")), "{}", broker.log());
    let later = (0..50).map(|_| Client::open(address, 5));
    let mut clients: Vec<_> = waiting.into_iter().chain(later).collect();
    for client in &mut clients {
        assert_eq!(client.try_connect(&Connect::new(5, &unique("c"))), Some(0));
    }
    clients.iter_mut().for_each(Client::ping);
}

#[test]
fn unix_socket_that_systemd_has_opened_is_served_and_stays() {
    let folder = folder();
    let path = socket_in(&folder);
    let socket = UnixListener::bind(&path).unwrap();
    let mut broker = start_passed(socket.into(), "mqtt", "kind = \"unix\"\n");
    client_at(&path).ping();
    broker.signal(Signal::TERM);
    assert!(broker.wait(PATIENCE).success());
    assert!(path.exists(), "it is not ours to remove");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn socket_that_systemd_has_not_opened_is_told_with_those_that_there_are() {
    let told = refused_passed(TcpListener::bind("127.0.0.1:0").unwrap().into(), "http");
    assert!(told.contains("\"mqtt\"") && told.contains("http"), "{told}");
    let output = run("shards = 1\n[[listeners]]\nsystemd = \"mqtt\"\nanonymous = true\n", &[], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && told.contains("socket unit"), "{told}");
}

#[test]
fn passed_socket_must_be_one_that_the_listener_can_accept_on() {
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let told = refused_passed(bound.into(), "mqtt");
    assert!(told.contains("does not listen"), "{told}");
    let folder = folder();
    let path = socket_in(&folder);
    refused_passed(UnixListener::bind(&path).unwrap().into(), "mqtt");
    refused_passed(UnixStream::pair().unwrap().0.into(), "mqtt");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn systemd_is_told_when_the_broker_is_ready_and_when_it_stops() {
    let folder = folder();
    let path = folder.join("notify.sock");
    let notices = UnixDatagram::bind(&path).unwrap();
    notices.set_read_timeout(Some(PATIENCE)).unwrap();
    let broker = Broker::start_by(folder, 1, "", |configuration| {
        let mut command = program();
        command.arg("--config").arg(configuration).env("NOTIFY_SOCKET", &path);
        command
    });
    let notice = || {
        let mut buffer = [0; 64];
        let length = notices.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(notice(), "READY=1");
    broker.signal(Signal::TERM);
    assert_eq!(notice(), "STOPPING=1");
}
