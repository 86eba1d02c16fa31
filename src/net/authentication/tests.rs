//! Stories of clients that authenticate.

mod service;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::config::{self, AuthenticatorKind, CertificateName};
use crate::security::password::{Cost, Hash};
use crate::security::scram::{METHOD, Verifier};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret of more than thirty-two bytes";

/// A directory that goes with the test.
pub(super) struct Directory {
    pub(super) path: PathBuf,
}

impl Directory {
    pub(super) fn new() -> Self {
        let name = format!("willowmq-authentication-{}-{}", std::process::id(), u64::from_le_bytes(random()));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// Writes a file, and says where it is.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn line(username: &str, password: &str) -> String {
    let hash = Hash::argon2id(password.as_bytes(), &[7; 16], Cost { kib: 8, passes: 1, lanes: 1 });
    format!("{username}:{hash}\n")
}

fn scram_line(username: &str, password: &str) -> String {
    format!("{username}:{}\n", Verifier::new(password.as_bytes(), &[5; 16], 4096))
}

fn settings(name: &str, kind: AuthenticatorKind) -> config::Authenticator {
    config::Authenticator { name: name.into(), kind, ..config::Authenticator::default() }
}

fn password_file(name: &str, path: PathBuf) -> config::Authenticator {
    config::Authenticator { file: Some(path), ..settings(name, AuthenticatorKind::Password) }
}

fn tokens(name: &str, path: PathBuf) -> config::Authenticator {
    let algorithms = vec!["HS256".to_owned()];
    config::Authenticator { file: Some(path), algorithms, ..settings(name, AuthenticatorKind::Jwt) }
}

fn service(address: SocketAddr) -> config::Authenticator {
    let url = Some(format!("http://{address}/mqtt"));
    config::Authenticator { url, ..settings("service", AuthenticatorKind::Http) }
}

/// Authentication of a broker with one listener, which asks everybody.
struct Broker {
    authentication: Authentication,
    steps: Receiver<Step>,
    /// Where the machine's time and ours is.
    clock: Clock,
}

impl Broker {
    fn new(authenticators: Vec<config::Authenticator>) -> Self {
        Self::with(authenticators, |_| {})
    }

    fn with(authenticators: Vec<config::Authenticator>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { authenticators, ..Config::default() };
        config.listeners[0].anonymous = false;
        change(&mut config);
        let checks = Arc::new(Offload::new("check", 1, config.security.checks_waiting_max as usize).unwrap());
        let (sender, steps) = channel();
        let sender = Mutex::new(sender);
        let deliver = move |shard, connection, step| {
            assert_eq!((shard, connection), (ASKER.shard, ASKER.connection));
            let _ = sender.lock().unwrap().send(step);
        };
        let clock = Clock::start_at(Moment::ZERO);
        let gate = Arc::new(Gate::new(100, &config));
        let means = Means { clock, checks, gate, secret: Some([7; 32]), deliver: Arc::new(deliver) };
        let authentication = Authentication::new(&config, means).unwrap();
        Self { authentication, steps, clock }
    }

    /// The step that ends the wait, if there is one.
    fn ask(&self, credentials: Credentials) -> Step {
        match self.authentication.begin(ASKER, credentials) {
            Step::Waiting => self.steps.recv_timeout(PATIENCE).unwrap(),
            step => step,
        }
    }

    fn reason(&self, credentials: Credentials) -> ReasonCode {
        reason(&self.ask(credentials))
    }
}

const ASKER: Asker = Asker { shard: 3, connection: ConnectionId { index: 5, generation: 7 } };

pub(super) fn nobody() -> Credentials {
    Credentials {
        listener: 0,
        source: Some("192.0.2.7:40000".parse().unwrap()),
        counted: None,
        version: ProtocolVersion::V5,
        client_id: "lamp-1".into(),
        username: None,
        password: None,
        certificate: None,
        process: None,
        enhanced: None,
        previous: None,
    }
}

fn user(username: &str, password: &str) -> Credentials {
    Credentials { username: Some(username.into()), password: Some(password.as_bytes().into()), ..nobody() }
}

fn bearer(token: &str) -> Credentials {
    Credentials { password: Some(token.as_bytes().into()), ..nobody() }
}

fn by_scram(data: &[u8]) -> Credentials {
    Credentials { enhanced: Some((METHOD.into(), data.into())), ..nobody() }
}

fn with_certificate(fields: &[(&str, &str)]) -> Credentials {
    let fields = fields.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    Credentials { certificate: Some(Arc::new(PeerCertificate { fields })), ..nobody() }
}

fn reason(step: &Step) -> ReasonCode {
    match step {
        Step::Granted(_) => ReasonCode::Success,
        Step::Refused(refused) => refused.reason,
        other => panic!("{other:?}"),
    }
}

fn granted(step: Step) -> Grant {
    match step {
        Step::Granted(grant) => *grant,
        other => panic!("{other:?}"),
    }
}

fn name(step: Step) -> Option<String> {
    granted(step).identity.username.map(|name| name.to_string())
}

fn is_failure(step: &Step) -> bool {
    matches!(step, Step::Refused(Refused { is_failure: true, .. }))
}

fn token(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

fn seconds(moment: Moment) -> u64 {
    moment.as_micros() / 1_000_000
}

mod anonymous {
    use super::*;

    #[test]
    fn where_nobody_is_asked_everybody_is_anonymous_whatever_they_say() {
        let broker = Broker::with(Vec::new(), |config| config.listeners[0].anonymous = true);
        assert_eq!(name(broker.ask(nobody())), None);
        assert_eq!(name(broker.ask(user("root", "secret"))), None);
        assert_eq!(broker.authentication.totals().anonymous, 2);
    }

    #[test]
    fn who_claims_something_is_not_taken_for_nobody() {
        let directory = Directory::new();
        let file = password_file("file", directory.write("users", line("anna", "secret")));
        let certificate = settings("certificate", AuthenticatorKind::Certificate);
        let broker = Broker::with(vec![file, certificate], |config| config.listeners[0].anonymous = true);
        assert_eq!(name(broker.ask(nobody())), None);
        let wrong = ReasonCode::BadUserNameOrPassword;
        assert_eq!(broker.reason(user("anna", "wrong")), wrong);
        assert_eq!(broker.reason(user("bert", "secret")), wrong);
        assert_eq!(broker.reason(Credentials { username: Some("anna".into()), ..nobody() }), wrong);
        assert_eq!(broker.reason(bearer("secret")), wrong);
        assert_eq!(
            broker.reason(with_certificate(&[("cert.dns", "lamp.example")])),
            wrong,
            "a certificate without the name"
        );
    }

    #[test]
    fn who_says_nothing_where_something_is_needed_is_not_authorized() {
        let directory = Directory::new();
        let broker = Broker::new(vec![password_file("file", directory.write("users", ""))]);
        let step = broker.ask(nobody());
        assert_eq!(reason(&step), ReasonCode::NotAuthorized);
        assert!(!is_failure(&step), "nothing was guessed");
    }
}

mod password {
    use super::*;

    #[test]
    fn a_right_password_is_granted_and_a_wrong_one_is_a_failure() {
        let directory = Directory::new();
        let broker = Broker::new(vec![password_file("file", directory.write("users", line("anna", "secret")))]);
        assert_eq!(name(broker.ask(user("anna", "secret"))).as_deref(), Some("anna"));
        let step = broker.ask(user("anna", "wrong"));
        assert_eq!(reason(&step), ReasonCode::BadUserNameOrPassword);
        assert!(is_failure(&step));
        assert_eq!(broker.authentication.totals(), Totals { granted: 1, refused: 1, ..Totals::default() });
    }

    #[test]
    fn the_first_file_that_knows_the_user_decides() {
        let directory = Directory::new();
        let staff = directory.write("staff", line("anna", "one"));
        let devices = directory.write("devices", line("anna", "two") + &line("lamp", "three"));
        let broker = Broker::new(vec![password_file("staff", staff), password_file("devices", devices)]);
        assert_eq!(broker.reason(user("anna", "one")), ReasonCode::Success);
        assert_eq!(broker.reason(user("anna", "two")), ReasonCode::BadUserNameOrPassword);
        assert_eq!(broker.reason(user("lamp", "three")), ReasonCode::Success);
    }

    #[test]
    fn a_listener_asks_whom_it_names() {
        let directory = Directory::new();
        let staff = password_file("staff", directory.write("staff", line("anna", "one")));
        let devices = password_file("devices", directory.write("devices", line("anna", "two")));
        let broker = Broker::with(vec![staff, devices], |config| {
            config.listeners[0].authenticators = Some(vec!["devices".into()]);
        });
        assert_eq!(broker.reason(user("anna", "two")), ReasonCode::Success);
        assert_eq!(broker.reason(user("anna", "one")), ReasonCode::BadUserNameOrPassword);
    }

    #[test]
    fn what_was_right_is_remembered_until_the_file_changes() {
        let directory = Directory::new();
        let broker = Broker::new(vec![password_file("file", directory.write("users", line("anna", "secret")))]);
        assert!(matches!(broker.authentication.begin(ASKER, user("anna", "secret")), Step::Waiting));
        granted(broker.steps.recv_timeout(PATIENCE).unwrap());
        let remembered = broker.authentication.begin(ASKER, user("anna", "secret"));
        assert!(matches!(remembered, Step::Granted(_)), "at once: {remembered:?}");
        assert!(matches!(broker.authentication.begin(ASKER, user("anna", "Secret")), Step::Waiting));
        broker.steps.recv_timeout(PATIENCE).unwrap();
        assert_eq!(broker.authentication.totals().remembered, 1);

        directory.write("users", line("anna", "new"));
        assert_eq!(broker.authentication.reload(), Ok(true));
        assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::BadUserNameOrPassword);
        assert_eq!(broker.reason(user("anna", "new")), ReasonCode::Success);
    }

    #[test]
    fn nothing_is_remembered_where_that_is_switched_off() {
        let directory = Directory::new();
        let file = password_file("file", directory.write("users", line("anna", "secret")));
        let broker = Broker::with(vec![file], |config| config.security.cache_time = Duration::ZERO);
        for _ in 0..2 {
            assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::Success);
        }
        assert_eq!(broker.authentication.totals().remembered, 0);
    }

    #[test]
    fn a_broken_file_leaves_the_old_one_in_force_and_the_others_are_read() {
        let directory = Directory::new();
        let (first, second) = (directory.write("first", line("anna", "one")), directory.write("second", ""));
        let broker = Broker::new(vec![password_file("first", first.clone()), password_file("second", second.clone())]);
        assert_eq!(broker.authentication.files(), [first.clone(), second]);
        directory.write("first", "anna");
        directory.write("second", line("bert", "two"));
        let error = broker.authentication.reload().unwrap_err();
        assert!(error.starts_with(&format!("authenticator first: {}:1: ", first.display())), "{error}");
        assert_eq!(broker.reason(user("anna", "one")), ReasonCode::Success);
        assert_eq!(broker.reason(user("bert", "two")), ReasonCode::Success);
    }

    #[test]
    fn a_broken_file_is_no_beginning() {
        let directory = Directory::new();
        let path = directory.write("users", "# nobody\nanna");
        let config = Config { authenticators: vec![password_file("file", path.clone())], ..Config::default() };
        let checks = Arc::new(Offload::new("check", 1, 1).unwrap());
        let clock = Clock::start_at(Moment::ZERO);
        let gate = Arc::new(Gate::new(100, &config));
        let means = Means { clock, checks, gate, secret: Some([7; 32]), deliver: Arc::new(|_, _, _| {}) };
        let error = Authentication::new(&config, means).err().unwrap();
        assert!(error.to_string().starts_with(&format!("authenticator file: {}:2: ", path.display())), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn above_the_bound_clients_hear_that_the_server_is_busy_and_those_who_are_known_get_in() {
        let directory = Directory::new();
        let file = password_file("file", directory.write("users", line("anna", "secret")));
        let broker = Broker::with(vec![file], |config| config.security.checks_waiting_max = 16);
        assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::Success);
        let (go_on, wait) = channel::<()>();
        let (begun, has_begun) = channel();
        let hold = move || {
            begun.send(()).unwrap();
            let _ = wait.recv();
        };
        broker.authentication.inner().means.checks.submit_for(None, hold).unwrap();
        has_begun.recv_timeout(PATIENCE).unwrap();
        let begin = |credentials| broker.authentication.begin(ASKER, credentials);
        let guess = |number: usize| user("anna", &format!("guess {number}"));
        assert!((0..2).all(|number| matches!(begin(guess(number)), Step::Waiting)), "an eighth is for one address");
        let busy = begin(guess(2));
        assert_eq!(reason(&busy), ReasonCode::ServerBusy);
        assert!(!is_failure(&busy), "it may have been right");
        assert!(matches!(begin(user("anna", "secret")), Step::Granted(_)), "known, so it does not wait");
        let elsewhere = Credentials { source: Some("192.0.2.8:1".parse().unwrap()), ..guess(3) };
        assert!(matches!(begin(elsewhere), Step::Waiting), "another address has room");
        assert_eq!(broker.authentication.totals().busy, 1);
        go_on.send(()).unwrap();
        for _ in 0..3 {
            assert_eq!(reason(&broker.steps.recv_timeout(PATIENCE).unwrap()), ReasonCode::BadUserNameOrPassword);
        }
    }
}

mod tokens {
    use super::*;

    fn broker(directory: &Directory) -> Broker {
        Broker::new(vec![tokens("tokens", directory.write("key", SECRET))])
    }

    #[test]
    fn a_token_tells_who_its_bearer_is_what_it_may_do_and_for_how_long() {
        let directory = Directory::new();
        let broker = broker(&directory);
        let end = seconds(broker.clock.now()) + 60;
        let token = token(&json!({"sub": "anna", "exp": end, "site": "north", "mqtt": {"publish": ["anna/#"]}}));
        for _ in 0..2 {
            let grant = granted(broker.ask(bearer(&token)));
            assert_eq!(grant.identity.username.as_deref(), Some("anna"));
            assert_eq!(grant.identity.field("claim.site"), Some("north"));
            assert_eq!(grant.identity.granted.unwrap().publish.len(), 1);
            assert_eq!(grant.valid_until, Some(Moment::from_micros(end * 1_000_000)));
        }
        assert_eq!(broker.authentication.totals().remembered, 1);
    }

    #[test]
    fn a_token_that_has_ended_is_refused() {
        let directory = Directory::new();
        let broker = broker(&directory);
        let step = broker.ask(bearer(&token(&json!({"sub": "anna", "exp": seconds(broker.clock.now()) - 1}))));
        assert_eq!(reason(&step), ReasonCode::BadUserNameOrPassword);
        assert!(is_failure(&step));
    }

    #[test]
    fn the_client_identifier_must_be_one_that_the_token_allows() {
        let directory = Directory::new();
        let broker = broker(&directory);
        let token = token(&json!({"sub": "anna", "exp": seconds(broker.clock.now()) + 60, "client_id": "lamp-*"}));
        let with_id = |client_id: &str| Credentials { client_id: client_id.into(), ..bearer(&token) };
        assert_eq!(broker.reason(with_id("lamp-1")), ReasonCode::Success);
        assert_eq!(broker.reason(with_id("door")), ReasonCode::ClientIdentifierNotValid);
        assert_eq!(broker.reason(with_id("")), ReasonCode::ClientIdentifierNotValid);
    }

    #[test]
    fn a_user_name_beside_the_token_must_be_that_of_the_token_or_empty() {
        let directory = Directory::new();
        let broker = broker(&directory);
        let token = token(&json!({"sub": "anna", "exp": seconds(broker.clock.now()) + 60}));
        let with_name = |name: &str| user(name, &token);
        assert_eq!(broker.reason(with_name("anna")), ReasonCode::Success);
        assert_eq!(name(broker.ask(with_name(""))).as_deref(), Some("anna"));
        assert_eq!(broker.reason(with_name("root")), ReasonCode::BadUserNameOrPassword);
    }

    #[test]
    fn a_password_that_is_no_token_is_for_the_next_one() {
        let directory = Directory::new();
        let file = password_file("file", directory.write("users", line("anna", "secret")));
        let broker = Broker::new(vec![tokens("tokens", directory.write("key", SECRET)), file]);
        assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::Success);
        let forged = token(&json!({"sub": "anna", "exp": 9_999_999_999_u64})) + "A";
        assert_eq!(broker.reason(user("anna", &forged)), ReasonCode::BadUserNameOrPassword);
    }

    #[test]
    fn an_algorithm_without_a_key_is_no_beginning() {
        let directory = Directory::new();
        let settings = tokens("tokens", directory.write("key", SECRET));
        let settings = config::Authenticator { algorithms: vec!["RS256".into()], ..settings };
        let error = Authenticator::new(&settings, 1).err().unwrap();
        assert!(error.contains("there is no key for the algorithm RS256"), "{error}");
    }
}

mod of_the_connection {
    use super::*;

    #[test]
    fn a_certificate_names_the_user() {
        let settings = settings("certificate", AuthenticatorKind::Certificate);
        let broker = Broker::new(vec![config::Authenticator { username_from: CertificateName::Dns, ..settings }]);
        let fields = [("cert.cn", "Lamp 1"), ("cert.dns", "lamp-1.example")];
        let grant = granted(broker.ask(with_certificate(&fields)));
        assert_eq!(grant.identity.username.as_deref(), Some("lamp-1.example"));
        assert_eq!(grant.identity.field("cert.cn"), Some("Lamp 1"));
        assert_eq!(broker.reason(with_certificate(&fields[..1])), ReasonCode::BadUserNameOrPassword);
    }

    #[test]
    fn the_process_at_the_other_end_names_the_user() {
        let broker = Broker::new(vec![settings("peer", AuthenticatorKind::Peer)]);
        let process = |uid| Some(PeerProcess { uid, gid: 100, pid: 4711 });
        let grant = granted(broker.ask(Credentials { process: process(0), ..nobody() }));
        assert_eq!(grant.identity.username.as_deref(), Some("root"));
        assert_eq!(grant.identity.field("peer.pid"), Some("4711"));
        let unknown = Credentials { process: process(3_999_999_999), ..nobody() };
        assert_eq!(name(broker.ask(unknown)).as_deref(), Some("uid:3999999999"));
        assert_eq!(broker.reason(nobody()), ReasonCode::NotAuthorized);
    }

    #[test]
    fn facts_of_the_connection_are_there_whoever_proved_the_user() {
        let directory = Directory::new();
        let broker = Broker::new(vec![password_file("file", directory.write("users", line("anna", "secret")))]);
        let certificate = with_certificate(&[("cert.cn", "phone")]).certificate;
        let grant = granted(broker.ask(Credentials { certificate, ..user("anna", "secret") }));
        assert_eq!(grant.identity.username.as_deref(), Some("anna"));
        assert_eq!(grant.identity.field("cert.cn"), Some("phone"));
    }
}

mod enhanced {
    use super::*;
    use aws_lc_rs::{digest, hmac, pbkdf2};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn broker(directory: &Directory) -> Broker {
        Broker::new(vec![password_file("file", directory.write("users", scram_line("anna", "pencil")))])
    }

    fn first(broker: &Broker, username: &str) -> (String, Box<Exchange>) {
        match broker.ask(by_scram(format!("n,,n={username},r=abc").as_bytes())) {
            Step::Continue { data, exchange } => (String::from_utf8(data).unwrap(), exchange),
            other => panic!("{other:?}"),
        }
    }

    /// The last message of a client that believes in this password.
    pub(super) fn last(username: &str, password: &str, server_first: &str) -> String {
        let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
        let attribute = |name| server_first.split(',').find_map(|text| text.strip_prefix(name)).unwrap();
        let salt = STANDARD.decode(attribute("s=")).unwrap();
        let iterations = attribute("i=").parse().unwrap();
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let without_proof = format!("c=biws,r={}", attribute("r="));
        let covered = format!("n={username},r=abc,{server_first},{without_proof}");
        let signature = sign(stored_key.as_ref(), covered.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    #[test]
    fn a_client_that_knows_the_password_need_not_send_it() {
        let directory = Directory::new();
        let broker = broker(&directory);
        let (server_first, exchange) = first(&broker, "anna");
        assert_eq!(exchange.method(), METHOD);
        let last = last("anna", "pencil", &server_first);
        let grant = granted(broker.authentication.go_on(exchange, last.as_bytes()));
        assert_eq!(grant.identity.username.as_deref(), Some("anna"));
        let enhanced = grant.enhanced.unwrap();
        assert_eq!(&*enhanced.method, METHOD);
        assert!(enhanced.data.starts_with(b"v="));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_are_told_the_same_in_the_same_steps() {
        let directory = Directory::new();
        let broker = broker(&directory);
        for username in ["anna", "bert"] {
            let (server_first, exchange) = first(&broker, username);
            assert!(server_first.ends_with(",i=4096"));
            let last = last(username, "pen", &server_first);
            let step = broker.authentication.go_on(exchange, last.as_bytes());
            assert_eq!(reason(&step), ReasonCode::BadUserNameOrPassword);
            assert!(is_failure(&step));
        }
        let salt = |username| first(&broker, username).0.split_once("s=").unwrap().1.to_owned();
        assert_eq!(salt("bert"), salt("bert"));
        assert_ne!(salt("bert"), salt("carl"));
    }

    /// Otherwise whoever may write to a later file could become somebody of an earlier one.
    #[test]
    fn the_first_file_that_knows_the_user_decides_here_too() {
        let directory = Directory::new();
        let staff = directory.write("staff", line("anna", "one"));
        let devices = directory.write("devices", scram_line("anna", "two") + &scram_line("lamp", "three"));
        let broker = Broker::new(vec![password_file("staff", staff), password_file("devices", devices)]);
        for (username, password, told) in
            [("anna", "two", ReasonCode::BadUserNameOrPassword), ("lamp", "three", ReasonCode::Success)]
        {
            let (server_first, exchange) = first(&broker, username);
            let last = last(username, password, &server_first);
            let step = broker.authentication.go_on(exchange, last.as_bytes());
            assert_eq!(reason(&step), told, "{username}");
        }
    }

    #[test]
    fn mqtt_4_12_0_1_a_method_that_we_do_not_have_is_refused() {
        let directory = Directory::new();
        let other = Credentials { enhanced: Some(("GS2-KRB5".into(), Vec::new())), ..nobody() };
        assert_eq!(broker(&directory).reason(other), ReasonCode::BadAuthenticationMethod);
        let plain = password_file("file", directory.write("plain", line("anna", "pencil")));
        assert_eq!(Broker::new(vec![plain]).reason(by_scram(b"n,,n=anna,r=abc")), ReasonCode::BadAuthenticationMethod);
        let open = Broker::with(Vec::new(), |config| config.listeners[0].anonymous = true);
        assert_eq!(open.reason(by_scram(b"n,,n=anna,r=abc")), ReasonCode::BadAuthenticationMethod);
    }

    #[test]
    fn garbage_is_refused_in_either_step() {
        let directory = Directory::new();
        let broker = broker(&directory);
        for garbage in [&b""[..], b"n,,", b"p=tls-unique,,n=anna,r=abc", b"n,a=root,n=anna,r=abc"] {
            let step = broker.ask(by_scram(garbage));
            assert_eq!(reason(&step), ReasonCode::NotAuthorized);
            assert!(is_failure(&step));
        }
        let (_, exchange) = first(&broker, "anna");
        assert_eq!(reason(&broker.authentication.go_on(exchange, b"garbage")), ReasonCode::NotAuthorized);
        let (server_first, _) = first(&broker, "anna");
        let (_, another) = first(&broker, "anna");
        let overheard = last("anna", "pencil", &server_first);
        let step = broker.authentication.go_on(another, overheard.as_bytes());
        assert_eq!(reason(&step), ReasonCode::NotAuthorized);
    }

    #[test]
    fn who_re_authenticates_must_remain_who_it_was() {
        let directory = Directory::new();
        let broker = broker(&directory);
        for (previous, expected) in [("anna", ReasonCode::Success), ("bert", ReasonCode::NotAuthorized)] {
            let previous = Some(Identity::of_user(previous));
            let credentials = Credentials { previous, ..by_scram(b"n,,n=anna,r=abc") };
            let Step::Continue { data, exchange } = broker.ask(credentials) else { panic!("no challenge") };
            let last = last("anna", "pencil", std::str::from_utf8(&data).unwrap());
            assert_eq!(reason(&broker.authentication.go_on(exchange, last.as_bytes())), expected);
        }
    }
}

mod banned {
    use super::*;

    /// One that a ban can meet.
    fn counted(credentials: Credentials) -> Credentials {
        let counted = credentials.source.map(|source| Source::of(source.ip()));
        Credentials { counted, ..credentials }
    }

    fn broker(directory: &Directory, lines: &str) -> Broker {
        let file = password_file("file", directory.write("users", lines));
        Broker::with(vec![file], |config| config.security.failures_max = 3)
    }

    #[test]
    fn guesses_made_at_the_same_time_come_to_no_more_than_those_made_one_by_one() {
        let directory = Directory::new();
        let broker = broker(&directory, &line("anna", "secret"));
        let (go_on, wait) = channel::<()>();
        broker.authentication.inner().means.checks.submit_for(None, move || wait.recv().unwrap()).unwrap();
        for password in ["one", "two", "three", "four", "secret", "five"] {
            let step = broker.authentication.begin(ASKER, counted(user("anna", password)));
            assert!(matches!(step, Step::Waiting), "{step:?}");
        }
        go_on.send(()).unwrap();
        let reasons = [(); 6].map(|()| reason(&broker.steps.recv_timeout(PATIENCE).unwrap()));
        let (wrong, banned) = (ReasonCode::BadUserNameOrPassword, ReasonCode::Banned);
        assert_eq!(reasons, [wrong, wrong, wrong, banned, banned, banned]);
        let at_once = broker.authentication.begin(ASKER, counted(user("anna", "secret")));
        assert_eq!(reason(&at_once), banned);
        let elsewhere = Credentials { source: Some("192.0.2.8:1".parse().unwrap()), ..user("anna", "secret") };
        assert_eq!(broker.reason(counted(elsewhere)), ReasonCode::Success);
    }

    /// A ban that comes while a guess is judged must not be what tells a right one from a wrong one.
    #[test]
    fn what_is_found_out_after_the_ban_is_not_told() {
        let directory = Directory::new();
        let broker = broker(&directory, &line("anna", "secret"));
        let inner = broker.authentication.inner();
        let guess = counted(nobody()).counted;
        assert_eq!(
            [(); 3].map(|()| reason(&inner.settle(guess, Step::Refused(Refused::WRONG)))),
            [Refused::WRONG.reason; 3]
        );
        let identity = Identity::of_user("anna");
        let right = Step::Granted(Box::new(Grant { identity, valid_until: None, enhanced: None }));
        for step in [right, Step::Refused(Refused::WRONG)] {
            assert!(matches!(inner.settle(guess, step), Step::Refused(Refused::BANNED)));
        }
    }

    #[test]
    fn what_is_remembered_does_not_let_in_whom_a_ban_keeps_out() {
        let directory = Directory::new();
        let broker = broker(&directory, &line("anna", "secret"));
        assert_eq!(broker.reason(counted(user("anna", "secret"))), ReasonCode::Success);
        (0..3).for_each(|_| drop(broker.ask(counted(user("anna", "wrong")))));
        assert_eq!(broker.reason(counted(user("anna", "secret"))), ReasonCode::Banned);
        assert_eq!(broker.authentication.totals().remembered, 0);
    }

    #[test]
    fn the_last_step_of_scram_is_refused_where_the_ban_came_before_it() {
        let directory = Directory::new();
        let broker = broker(&directory, &scram_line("anna", "pencil"));
        let begin = || match broker.ask(counted(by_scram(b"n,,n=anna,r=abc"))) {
            Step::Continue { data, exchange } => (String::from_utf8(data).unwrap(), exchange),
            other => panic!("{other:?}"),
        };
        let (server_first, right) = begin();
        let wrong = [(); 3].map(|()| begin().1);
        for exchange in wrong {
            assert!(is_failure(&broker.authentication.go_on(exchange, b"garbage")));
        }
        let last = enhanced::last("anna", "pencil", &server_first);
        assert_eq!(reason(&broker.authentication.go_on(right, last.as_bytes())), ReasonCode::Banned);
        assert_eq!(broker.reason(counted(by_scram(b"n,,n=anna,r=abc"))), ReasonCode::Banned);
    }
}

#[test]
fn what_is_secret_is_not_shown() {
    let credentials = Credentials { enhanced: Some((METHOD.into(), b"proof".into())), ..user("anna", "secret") };
    let shown = format!("{credentials:?}");
    assert!(shown.contains("anna"), "{shown}");
    for secret in [&b"secret"[..], b"proof"] {
        assert!(!shown.contains(&format!("{secret:?}")), "{shown}");
    }
}
