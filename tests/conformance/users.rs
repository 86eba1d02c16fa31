//! Limits that depend on who a client is: failed authentications by address, and connections by user.

use crate::harness::broker::folder;
use crate::harness::passwords::{self, PASSWORD};
use crate::harness::transport::Kind;
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, Will, millis, unique};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
const BANNED: u8 = 0x8A;
const QUOTA_EXCEEDED: u8 = 0x97;
/// A broker for the users alice and bob.
fn broker(settings: &str) -> Broker {
    let folder = folder();
    let authenticator = passwords::authenticator(&folder, &["alice", "bob"]);
    Broker::start_in(folder, 2, &format!("{settings}\n{authenticator}"))
}

fn connect_as(user: &str, password: &[u8]) -> Connect {
    passwords::connect_as(5, user, password)
}

/// The client and the Reason Code of its CONNACK; `None` where the broker closes without an answer.
fn try_from(source: Ipv4Addr, broker: &Broker, connect: &Connect) -> (Client, Option<u8>) {
    let mut client = Client::open_from(source, broker.address, 5);
    let reason = client.try_connect(connect);
    (client, reason)
}

#[test]
fn an_address_that_fails_too_often_is_turned_away_for_a_while_and_no_other() {
    let mut broker = broker("[security]\nfailures_max = 3\nfailure_delay = \"10ms\"\nban_time = \"3s\"\n");
    let (mut inside, reason) = try_from(ELSEWHERE, &broker, &connect_as("alice", PASSWORD));
    assert_eq!(reason, Some(0));
    let mut early = Client::open_from(ELSEWHERE, broker.address, 5);
    for wrong in [connect_as("alice", b"guess"), connect_as("nobody", PASSWORD), connect_as("bob", b"")] {
        assert_eq!(try_from(ELSEWHERE, &broker, &wrong).1, Some(BAD_USER_NAME_OR_PASSWORD));
    }
    assert_eq!(try_from(ELSEWHERE, &broker, &connect_as("alice", PASSWORD)).1, None);
    inside.ping(); // Who is in stays in, and who had only come gets no further.
    assert_eq!(early.try_connect(&connect_as("alice", PASSWORD)), Some(BANNED));
    let (mut other, reason) = try_from(HERE, &broker, &connect_as("alice", PASSWORD));
    assert_eq!(reason, Some(0));
    other.ping();

    let end = Instant::now() + PATIENCE;
    while try_from(ELSEWHERE, &broker, &connect_as("alice", PASSWORD)).1 != Some(0) {
        assert!(Instant::now() < end, "the ban does not end");
        thread::sleep(millis(50)); // Not a flood of its own.
    }
    assert_eq!((broker.total("authentication_failures"), broker.total("bans")), (3, 1));
    assert!(broker.total("turned_away_banned") >= 1);
    assert!(broker.log().contains("source=127.0.0.2"), "{}", broker.log());
}

/// The right password comes last, on a connection that was there before the ban.
#[test]
fn an_address_that_guesses_on_many_connections_at_the_same_time_is_banned_on_all_of_them() {
    let mut broker = broker("[security]\nfailures_max = 3\nfailure_delay = \"10ms\"\n");
    let mut clients: Vec<_> = (0..40).map(|_| Client::open_from(ELSEWHERE, broker.address, 5)).collect();
    for client in &mut clients[..39] {
        client.send_anyway(&connect_as("alice", b"guess").encode());
    }
    clients[39].send_anyway(&connect_as("alice", PASSWORD).encode());
    let reasons: Vec<_> = clients.iter_mut().map(Client::try_connack).collect();
    // Some may not have been accepted before the ban; these are closed.
    let refusals = [Some(BAD_USER_NAME_OR_PASSWORD), Some(BANNED), None];
    assert!(reasons.iter().all(|reason| refusals.contains(reason)), "{reasons:x?}");
    assert_ne!(reasons[39], Some(BAD_USER_NAME_OR_PASSWORD));
    assert_eq!(broker.total("bans"), 1);
}

#[test]
fn a_wrong_password_is_answered_later() {
    let broker = broker("[security]\nfailure_delay = \"300ms\"\n");
    let start = Instant::now();
    assert_eq!(try_from(HERE, &broker, &connect_as("alice", b"guess")).1, Some(BAD_USER_NAME_OR_PASSWORD));
    assert!(start.elapsed() >= millis(300), "after {:?}", start.elapsed());
}

#[test]
fn without_a_maximum_nobody_is_banned() {
    let mut broker = broker("[security]\nfailures_max = 0\nfailure_delay = \"0s\"\n");
    for _ in 0..50 {
        assert_eq!(try_from(ELSEWHERE, &broker, &connect_as("alice", b"guess")).1, Some(BAD_USER_NAME_OR_PASSWORD));
    }
    assert_eq!(try_from(ELSEWHERE, &broker, &connect_as("alice", PASSWORD)).1, Some(0));
    assert_eq!((broker.total("authentication_failures"), broker.total("bans")), (50, 0));
}

#[test]
fn a_user_has_so_many_connections_and_can_come_back_to_its_own() {
    let mut broker = broker("[[identities]]\nusers = [\"al*\"]\nconnections_max = 2\n");
    let first = broker.connect(connect_as("alice", PASSWORD));
    let mut second = broker.connect(Connect::new(5, "second").username(b"alice").password(PASSWORD));
    assert_eq!(broker.refuse(connect_as("alice", PASSWORD)).reason, QUOTA_EXCEEDED);
    assert_eq!(broker.refuse(passwords::connect_as(4, "alice", PASSWORD)).reason, 3); // [v3.1.1 MQTT-3.2.2-4]
    // Others are not concerned.
    let _others = [(); 3].map(|()| broker.connect(connect_as("bob", PASSWORD)));
    // A client at the limit takes over its own Session, again and again.
    for _ in 0..5 {
        let next = broker.connect(Connect::new(5, "second").username(b"alice").password(PASSWORD));
        second.expect_disconnect(&[0x8E]); // Session taken over. [MQTT-3.1.4-3]
        second = next;
    }
    assert_eq!(broker.refuse(connect_as("alice", PASSWORD)).reason, QUOTA_EXCEEDED);
    // And whoever leaves makes room at once.
    first.disconnect();
    let mut third = broker.connect(connect_as("alice", PASSWORD));
    third.ping();
    second.ping();
    assert_eq!(broker.total("turned_away_identity_connections"), 3);
}

#[test]
fn a_user_whose_client_vanished_gets_its_place_back() {
    let broker = broker("[[identities]]\nusers = [\"*\"]\nconnections_max = 1\n");
    for number in 0..10 {
        let end = Instant::now() + PATIENCE;
        let client = loop {
            let (client, reason) = try_from(HERE, &broker, &connect_as("alice", PASSWORD));
            match reason {
                Some(0) => break client,
                reason => assert_eq!(reason, Some(QUOTA_EXCEEDED)),
            }
            assert!(Instant::now() < end, "the place of connection {number} is not given back");
            thread::sleep(millis(10)); // Until the broker has seen the end.
        };
        match number % 2 {
            0 => client.cut(),
            _ => client.reset(),
        }
    }
}

#[test]
fn a_user_whose_layers_have_ended_gets_its_place_back_at_once() {
    for kind in [Kind::Tls, Kind::Ws, Kind::Wss] {
        let broker = broker(&format!("[[identities]]\nusers = [\"*\"]\nconnections_max = 1\n{}", kind.listener("")));
        let mut watcher = Client::open(broker.last_address(), 5);
        assert_eq!(watcher.try_connect(&connect_as("bob", PASSWORD)), Some(0));
        watcher.subscribe("will", 0);
        let mut client = Client::open_over(kind, broker.address, 5);
        assert_eq!(client.try_connect(&connect_as("alice", PASSWORD).will(Will::new("will", "gone"))), Some(0));
        client.stream.end_layer(); // And its socket stays open.
        assert_eq!(watcher.message().text(), "gone");
        let mut again = Client::open_over(kind, broker.address, 5);
        assert_eq!(again.try_connect(&connect_as("alice", PASSWORD)), Some(0), "{kind:?}");
    }
}

#[test]
fn a_user_who_may_send_large_packets_may_so_in_one_message_of_websocket() {
    let identities = "[[identities]]\nusers = [\"alice\"]\nlimits = { packet_bytes_max = \"24MiB\" }\n";
    let broker = broker(&format!("{identities}{}", Kind::Ws.listener("")));
    let mut client = Client::open_over(Kind::Ws, broker.address, 5);
    assert_eq!(client.try_connect(&connect_as("alice", PASSWORD)), Some(0));
    assert_eq!(client.publish(Publish::new("large", &"x".repeat(20 << 20)).qos(1)), 0x10); // No matching subscribers.
}

/// `program` in a user and a process namespace of its own, as in a container.
fn contained(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", program]);
    command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Its process has no number there.
#[test]
fn a_client_outside_of_the_container_of_the_broker_is_known_by_its_user() {
    if !contained("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("there are no namespaces for us here");
    }
    let folder = folder();
    let path = folder.join("mqtt.sock");
    let users = passwords::authenticator(&folder, &["alice"]);
    let settings = format!(
        "[[authenticators]]\nname = \"processes\"\nkind = \"peer\"\n\
         {users}[[listeners]]\nkind = \"unix\"\npath = {path:?}\nanonymous = false\n"
    );
    let _broker = Broker::start_by(folder, 1, &settings, |configuration| {
        let mut command = contained(env!("CARGO_BIN_EXE_willowmq"));
        command.arg("--config").arg(configuration);
        command
    });
    Client::connect_at(&path, &Connect::v5(&unique("c"))).ping();
}

#[test]
fn behind_a_proxy_the_address_of_the_client_counts_and_not_that_of_the_proxy() {
    for kind in [Kind::Tcp, Kind::Tls] {
        address_of_the_client_counts(kind);
    }
}

fn address_of_the_client_counts(kind: Kind) {
    let limits = "[limits]\nconnections_per_source_max = 2\n[security]\nfailures_max = 2\nfailure_delay = \"10ms\"\n";
    let listener = kind.listener("proxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n");
    let mut broker = broker(&format!("{limits}{listener}"));
    let [first, second, third] = [1, 2, 3].map(|number| Ipv4Addr::new(192, 0, 2, number));
    // Who is turned away for its address has no handshake computed either.
    let try_for = |client: Ipv4Addr, connect: &Connect| {
        let header = format!("PROXY TCP4 {client} 198.51.100.1 40000 1883\r\n");
        let mut client = Client::open_behind(header.as_bytes(), kind, broker.address)?;
        let reason = client.try_connect(connect)?;
        Some((client, reason))
    };
    let good = || connect_as("alice", PASSWORD);
    let mut inside = [(); 2].map(|()| try_for(first, &good()).expect("there is room"));
    assert!(inside.iter().all(|(_, reason)| *reason == 0));
    assert!(try_for(first, &good()).is_none(), "it has its two connections");
    let (_second, reason) = try_for(second, &good()).expect("it has none");
    assert_eq!(reason, 0);
    for _ in 0..2 {
        let (_, reason) = try_for(third, &connect_as("alice", b"guess")).expect("it may try");
        assert_eq!(reason, BAD_USER_NAME_OR_PASSWORD);
    }
    assert!(try_for(third, &good()).is_none(), "it is banned");
    inside.iter_mut().for_each(|(client, _)| client.ping());
    assert!(broker.total("turned_away_source_connections") >= 1);
    assert_eq!((broker.total("bans"), broker.total("turned_away_banned")), (1, 1));
    assert!(broker.log().contains("source=192.0.2.3"), "{}", broker.log());
}
