use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::*;

fn at(address: &str) -> Listener {
    Listener { address: address.parse().unwrap(), ..Listener::default() }
}

fn at_path(path: &Path) -> Listener {
    Listener { kind: ListenerKind::Unix, path: Some(path.to_owned()), mode: 0o620, ..Listener::default() }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("willowmq-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("mqtt.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bind(listener: &Listener, shards: usize) -> Result<Bound, StartError> {
    super::bind(listener, shards, &mut Passed::none(), Others::None)
}

fn address(at: &Endpoint) -> SocketAddr {
    match at {
        Endpoint::Address(address) => *address,
        other => panic!("{other}"),
    }
}

fn is_taken(listener: &Listener) -> bool {
    matches!(bind(listener, 1), Err(StartError::AddressInUse { .. }))
}

/// The sockets of the shards, and where they listen.
fn listening(listener: &Listener, shards: usize) -> (Vec<OwnedFd>, Endpoint, Option<SocketFile>) {
    let mut bound = bind(listener, shards).unwrap();
    let sockets = std::mem::take(&mut bound.sockets);
    let (at, file) = bound.listen(16).unwrap();
    (sockets, at, file)
}

#[test]
fn shards_share_a_port_that_the_system_chose() {
    for any_port in ["127.0.0.1:0", "[::1]:0"] {
        let bound = bind(&at(any_port), 4).unwrap();
        assert_eq!(bound.sockets.len(), 4);
        for socket in bound.sockets {
            assert_eq!(TcpListener::from(socket).local_addr().unwrap(), address(&bound.at));
        }
    }
}

#[test]
fn a_second_broker_is_told_that_the_port_is_taken() {
    let (sockets, chosen, _) = listening(&at("127.0.0.1:0"), 2);
    let same = at(&chosen.to_string());
    assert!(is_taken(&same));
    drop(sockets);
    assert!(!is_taken(&same));
}

#[test]
fn a_place_that_is_let_go_of_in_time_is_waited_for() {
    let folder = Folder::new("patience");
    for listener in [at("127.0.0.1:0"), at_path(&folder.socket())] {
        let (sockets, chosen, file) = listening(&listener, 2);
        let same = match &chosen {
            Endpoint::Address(address) => at(&address.to_string()),
            _ => listener,
        };
        assert!(is_taken(&same));
        let (begun, begins) = std::sync::mpsc::channel();
        let next = std::thread::spawn(move || {
            begun.send(()).unwrap();
            bind_patiently(&same, 2, &mut Passed::none(), Others::None).map(drop)
        });
        begins.recv().unwrap();
        drop((sockets, file));
        assert!(next.join().unwrap().is_ok());
    }
}

#[test]
fn clients_are_refused_until_the_listener_listens() {
    let mut bound = bind(&at("127.0.0.1:0"), 1).unwrap();
    let _sockets = std::mem::take(&mut bound.sockets);
    let refused = TcpStream::connect(address(&bound.at)).expect_err("nobody listens yet");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let (at, _) = bound.listen(16).unwrap();
    assert!(TcpStream::connect(address(&at)).is_ok());
}

#[test]
fn a_unix_socket_has_its_permissions_before_anybody_can_connect_and_goes_when_it_is_over() {
    let folder = Folder::new("mode");
    let mut bound = bind(&at_path(&folder.socket()), 3).unwrap();
    assert_eq!(bound.sockets.len(), 3);
    let file = std::fs::metadata(folder.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o620);
    let refused = UnixStream::connect(folder.socket()).expect_err("nobody listens yet");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let sockets = std::mem::take(&mut bound.sockets);
    let (at, file) = bound.listen(16).unwrap();
    assert_eq!(at, Endpoint::Path(folder.socket()));
    assert!(UnixStream::connect(folder.socket()).is_ok());
    drop((sockets, file));
    assert!(!folder.socket().exists());
}

#[test]
fn the_owner_of_a_unix_socket_must_exist() {
    let folder = Folder::new("owner");
    let mut listener = at_path(&folder.socket());
    listener.owner = Some("nobody-of-this-name:0".to_owned());
    let error = bind(&listener, 1).expect_err("there is no such user");
    assert!(error.to_string().contains("nobody-of-this-name"), "{error}");
    assert!(!folder.socket().exists());
    let own = std::fs::metadata(&folder.0).map(|own| format!("{}:{}", uid(&own), gid(&own))).unwrap();
    listener.owner = Some(own);
    assert!(bind(&listener, 1).is_ok());
}

fn uid(of: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(of)
}

fn gid(of: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::gid(of)
}

#[test]
fn a_socket_that_a_crash_left_behind_is_replaced_and_one_that_lives_is_not() {
    let folder = Folder::new("stale");
    let listener = at_path(&folder.socket());
    drop(UnixListener::bind(folder.socket()).unwrap()); // Nobody removes the file.
    assert!(folder.socket().exists());
    let (_sockets, _, file) = listening(&listener, 1);
    let error = bind(&listener, 1).expect_err("somebody listens");
    assert!(matches!(error, StartError::AddressInUse { .. }) && error.to_string().contains("mqtt.sock"), "{error}");
    assert!(UnixStream::connect(folder.socket()).is_ok(), "the first one was not disturbed");
    drop(file);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new("file");
    std::fs::write(folder.socket(), "precious").unwrap();
    let error = bind(&at_path(&folder.socket()), 1).expect_err("there is a file");
    assert!(error.to_string().contains("left alone"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.socket()).unwrap(), "precious");
    let error = bind(&at_path(&folder.0.join("none").join("mqtt.sock")), 1).expect_err("there is no such folder");
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

#[test]
fn of_two_brokers_that_start_at_one_path_the_second_gets_it_and_the_first_is_told() {
    let folder = Folder::new("race");
    let first = bind(&at_path(&folder.socket()), 1).unwrap();
    let second = bind(&at_path(&folder.socket()), 1).unwrap(); // Nobody listens, so it looks like what a crash leaves.
    let (at, _file) = second.listen(16).unwrap();
    let error = first.listen(16).expect_err("the path is another one's");
    assert!(matches!(error, StartError::AddressInUse { .. }), "{error}");
    assert_eq!(at, Endpoint::Path(folder.socket()));
    assert!(folder.socket().exists(), "the first one leaves the second's file alone");
}

#[test]
fn each_connection_to_a_shared_socket_is_accepted_by_one_shard() {
    use super::super::ring::{Completion, Ring, Wait};

    const CLIENTS: usize = 40;
    let folder = Folder::new("share");
    let (sockets, _, _file) = listening(&at_path(&folder.socket()), 2);
    let (accepted, acceptances) = std::sync::mpsc::channel();
    let shards = sockets.into_iter().map(|socket| {
        let accepted = accepted.clone();
        std::thread::spawn(move || {
            use std::os::fd::AsFd;
            let mut ring = Ring::new(2).unwrap();
            ring.accept(socket.as_fd(), 0);
            loop {
                ring.enter(Wait::AtMost(Duration::from_millis(10))).unwrap();
                while let Some(completion) = ring.next_completion() {
                    match completion {
                        Completion::Accepted { result: Ok(connection), armed: true, .. } => {
                            if accepted.send(connection).is_err() {
                                ring.cancel_accept(0);
                            }
                        }
                        Completion::Accepted { armed: false, .. } => return ring.enter(Wait::No).unwrap(),
                        other => panic!("{other:?}"),
                    }
                }
            }
        })
    });
    let shards: Vec<_> = shards.collect();
    drop(accepted);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| UnixStream::connect(folder.socket()).unwrap()).collect();
    let connections: Vec<_> = acceptances.iter().take(CLIENTS).collect();
    assert_eq!(connections.len(), CLIENTS);
    drop(acceptances);
    // One more for each shard tells it that the test is over: of all that came before, none was left in the backlog.
    while !shards.iter().all(std::thread::JoinHandle::is_finished) {
        clients.extend(UnixStream::connect(folder.socket())); // Refused where the last of them has just ended.
        std::thread::yield_now();
    }
    shards.into_iter().for_each(|shard| shard.join().unwrap());
}
