//! An HTTP service that is asked.

use super::*;

/// A service that gives the same answer to everybody, and tells what it was asked.
struct Answering {
    address: SocketAddr,
    questions: Receiver<(String, Value)>,
}

impl Answering {
    fn new(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, questions) = channel();
        std::thread::spawn(move || serve(&listener, status, body, &sender));
        Self { address, questions }
    }

    fn asked(&self) -> (String, Value) {
        self.questions.recv_timeout(PATIENCE).unwrap()
    }

    fn was_asked_again(&self) -> bool {
        self.questions.try_recv().is_ok()
    }
}

/// One request on each connection, until the test is over.
fn serve(listener: &TcpListener, status: &str, body: &str, sender: &Sender<(String, Value)>) {
    for connection in listener.incoming() {
        let connection = connection.unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        if answer(connection, status, body).is_some_and(|question| sender.send(question).is_err()) {
            return;
        }
    }
}

/// Answers one request; what it was.
fn answer(mut connection: impl Read + Write, status: &str, body: &str) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let question = loop {
        let mut chunk = [0; 4096];
        let length = connection.read(&mut chunk).unwrap_or(0);
        bytes.extend(&chunk[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n")
            && let Ok(question) = serde_json::from_str(rest)
        {
            break Some((head.to_owned(), question));
        }
        if length == 0 {
            break None;
        }
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nLocation: http://192.0.2.1/\r\nConnection: close\r\n\r\n{body}"
    );
    let _ = connection.write_all(answer.as_bytes());
    question
}

/// An address where nobody listens.
fn nobody_there() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_service_is_told_everything_and_its_word_counts() {
    let body = r##"{"result": "allow", "username": "anna@example", "rights": {"subscribe": ["#"]}, "valid_for": 60}"##;
    let there = Answering::new("200 OK", body);
    let broker = Broker::new(vec![service(there.address)]);
    let certificate = with_certificate(&[("cert.cn", "phone")]).certificate;
    let process = Some(PeerProcess { uid: 1, gid: 2, pid: 3 });
    let before = broker.clock.now();
    let grant = granted(broker.ask(Credentials { certificate, process, ..user("anna", "secret") }));
    assert_eq!(grant.identity.username.as_deref(), Some("anna@example"));
    assert_eq!(grant.identity.granted.unwrap().subscribe.len(), 1);
    assert!(grant.valid_until.unwrap() >= before + Duration::from_secs(60));
    let (head, question) = there.asked();
    assert!(head.starts_with("POST /mqtt HTTP/1.1\r\n"), "{head}");
    let expected = json!({
        "client_id": "lamp-1", "username": "anna", "password": "secret", "source": "192.0.2.7:40000",
        "listener": "tcp://127.0.0.1:1883", "protocol": "5.0",
        "certificate": {"cert.cn": "phone"}, "process": {"uid": 1, "gid": 2, "pid": 3},
    });
    assert_eq!(question, expected);
}

#[test]
fn a_password_that_is_no_text_is_sent_in_base64() {
    let there = Answering::new("200 OK", r#"{"result": "allow"}"#);
    let broker = Broker::new(vec![service(there.address)]);
    let credentials = Credentials { password: Some([0xFF, 0].into()), ..user("anna", "") };
    assert_eq!(name(broker.ask(credentials)).as_deref(), Some("anna"));
    assert_eq!(there.asked().1["password_base64"], "/wA=");
}

#[test]
fn a_service_says_no_in_several_ways() {
    for (status, body) in [("200 OK", r#"{"result": "deny"}"#), ("401 Unauthorized", ""), ("403 Forbidden", "not JSON")]
    {
        let there = Answering::new(status, body);
        let broker = Broker::new(vec![service(there.address)]);
        let step = broker.ask(user("anna", "secret"));
        assert_eq!(reason(&step), ReasonCode::BadUserNameOrPassword, "{status}");
        assert!(is_failure(&step));
    }
}

#[test]
fn a_service_may_leave_a_client_to_others() {
    let directory = Directory::new();
    let there = Answering::new("200 OK", r#"{"result": "ignore"}"#);
    let file = password_file("file", directory.write("users", line("anna", "secret")));
    let broker = Broker::new(vec![service(there.address), file]);
    assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::Success);
    assert_eq!(broker.reason(user("bert", "secret")), ReasonCode::BadUserNameOrPassword);
    assert_eq!(broker.reason(nobody()), ReasonCode::NotAuthorized);
}

#[test]
fn anything_else_is_a_failure_and_lets_nobody_in() {
    let huge: &'static str =
        Box::leak(format!(r#"{{"result": "allow", "x": "{}"}}"#, "x".repeat(70_000)).into_boxed_str());
    for (status, body) in [
        ("200 OK", ""),
        ("200 OK", "allow"),
        ("200 OK", r#"{"result": "maybe"}"#),
        ("200 OK", r#"{"result": {"allow": null}}"#),
        ("200 OK", r#"{"result": "allow", "rights": null}"#),
        ("200 OK", r#"{"result": "allow", "client_id": null}"#),
        ("200 OK", r#"{"result": "allow", "rights": {"publish": ["a#"]}}"#),
        ("200 OK", huge),
        ("204 No Content", ""),
        ("302 Found", r#"{"result": "allow"}"#),
        ("408 Request Timeout", r#"{"result": "allow"}"#),
        ("429 Too Many Requests", r#"{"result": "allow"}"#),
        ("500 Internal Server Error", r#"{"result": "allow"}"#),
    ] {
        let there = Answering::new(status, body);
        let broker = Broker::with(vec![service(there.address)], |config| config.listeners[0].anonymous = true);
        for credentials in [user("anna", "secret"), nobody()] {
            let step = broker.ask(credentials);
            assert_eq!(reason(&step), ReasonCode::ServerUnavailable, "{status} {body:.60}");
            assert!(!is_failure(&step));
        }
    }
}

/// Otherwise a stranger whose input the service does not take could have it left alone, and keep everybody out.
#[test]
fn a_client_whose_input_the_service_does_not_take_is_no_failure_of_the_service() {
    for (status, told) in [
        ("400 Bad Request", ReasonCode::BadUserNameOrPassword),
        ("413 Content Too Large", ReasonCode::BadUserNameOrPassword),
        ("302 Found", ReasonCode::ServerUnavailable),
    ] {
        let there = Answering::new(status, r#"{"result": "allow"}"#);
        let settings = config::Authenticator { failures_max: 1, ..service(there.address) };
        let broker = Broker::new(vec![settings]);
        for _ in 0..3 {
            let step = broker.ask(user("anna", "secret"));
            assert_eq!((reason(&step), is_failure(&step)), (told, told != ReasonCode::ServerUnavailable));
            there.asked(); // It is asked each time.
        }
    }
}

#[test]
fn mqtt_1_5_4_2_a_user_name_with_control_characters_is_nobodys() {
    let there = Answering::new("200 OK", r#"{"result": "allow", "username": "root\u0000"}"#);
    let broker = Broker::new(vec![config::Authenticator { failures_max: 1, ..service(there.address) }]);
    for _ in 0..2 {
        assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::BadUserNameOrPassword);
    }
}

#[test]
fn a_service_that_is_down_is_left_alone_after_some_failures() {
    let settings = config::Authenticator { failures_max: 2, ..service(nobody_there()) };
    let broker = Broker::new(vec![settings]);
    for _ in 0..2 {
        assert!(matches!(broker.authentication.begin(ASKER, user("anna", "secret")), Step::Waiting));
        assert_eq!(reason(&broker.steps.recv_timeout(PATIENCE).unwrap()), ReasonCode::ServerUnavailable);
    }
    let step = broker.authentication.begin(ASKER, user("anna", "secret"));
    assert_eq!(reason(&step), ReasonCode::ServerUnavailable, "at once");
    assert_eq!(broker.authentication.totals().unavailable, 3);
}

#[test]
fn a_service_that_does_not_answer_in_time_has_failed_and_checks_go_on_meanwhile() {
    let directory = Directory::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let slow = config::Authenticator { timeout: Duration::from_millis(300), ..service(address) };
    let file = password_file("file", directory.write("users", line("anna", "secret")));
    let broker = Broker::new(vec![file, slow]);
    assert!(matches!(broker.authentication.begin(ASKER, user("bert", "x")), Step::Waiting));
    assert!(matches!(broker.authentication.begin(ASKER, user("anna", "secret")), Step::Waiting));
    let steps = [0; 2].map(|_| reason(&broker.steps.recv_timeout(PATIENCE).unwrap()));
    assert_eq!(steps, [ReasonCode::Success, ReasonCode::ServerUnavailable]);
}

#[test]
fn an_answer_is_remembered_for_as_long_as_it_says_and_for_the_same_client_alone() {
    let there = Answering::new("200 OK", r#"{"result": "allow", "cache_for": 3600}"#);
    let broker = Broker::new(vec![service(there.address)]);
    for _ in 0..3 {
        assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::Success);
    }
    there.asked();
    assert!(!there.was_asked_again());
    let other_port = Credentials { source: Some("192.0.2.7:40001".parse().unwrap()), ..user("anna", "secret") };
    assert_eq!(broker.reason(other_port), ReasonCode::Success);
    assert!(!there.was_asked_again());
    let other_client = Credentials { client_id: "lamp-2".into(), ..user("anna", "secret") };
    assert_eq!(broker.reason(other_client), ReasonCode::Success);
    there.asked();
}

#[test]
fn an_answer_without_that_is_not_remembered_and_one_that_has_ended_is_none() {
    let there = Answering::new("200 OK", r#"{"result": "allow", "client_id": "lamp-*", "cache_for": null}"#);
    let broker = Broker::new(vec![service(there.address)]);
    for _ in 0..2 {
        assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::Success);
        there.asked();
    }
    let door = Credentials { client_id: "door".into(), ..user("anna", "secret") };
    assert_eq!(broker.reason(door), ReasonCode::ClientIdentifierNotValid);
    let there = Answering::new("200 OK", r#"{"result": "allow", "valid_until": 1000}"#);
    let broker = Broker::new(vec![service(there.address)]);
    assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::BadUserNameOrPassword);
}

/// A service behind TLS that lets everybody in, and the certificate by which it is known.
fn behind_tls() -> (SocketAddr, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(rustls::StreamOwned::new(tls, connection.unwrap()), "200 OK", r#"{"result": "allow"}"#);
        }
    });
    (address, own.cert.pem())
}

#[test]
fn a_service_behind_tls_must_be_the_one_that_the_authorities_vouch_for() {
    let directory = Directory::new();
    let ((address, certificate), (_, of_another)) = (behind_tls(), behind_tls());
    let url = Some(format!("https://localhost:{}/", address.port()));
    let authorities = directory.write("authorities", of_another);
    let settings = config::Authenticator { url, authorities: Some(authorities.clone()), ..service(address) };
    let broker = Broker::new(vec![settings]);
    assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::ServerUnavailable);
    directory.write("authorities", certificate);
    assert_eq!(broker.authentication.files(), [authorities]);
    assert_eq!(broker.authentication.reload(), Ok(true));
    assert_eq!(broker.reason(user("anna", "secret")), ReasonCode::Success);
}

#[test]
fn settings_that_cannot_work_are_no_beginning() {
    let directory = Directory::new();
    let with = |url: &str, authorities: Option<PathBuf>| {
        let settings = settings("service", AuthenticatorKind::Http);
        let settings = config::Authenticator { url: Some(url.into()), authorities, ..settings };
        Authenticator::new(&settings, 1).err().unwrap()
    };
    for url in ["", "example.org/x", "ftp://example.org", "http:///x", "http://user:pass@example.org", "http://a b"] {
        assert!(with(url, None).starts_with(&format!("url = {url:?}: ")), "{}", with(url, None));
    }
    assert!(with("https://example.org", None).contains("authorities must be given"));
    let empty = directory.write("authorities", "");
    assert!(with("https://example.org", Some(empty)).contains("there is no certificate in it"));
}
