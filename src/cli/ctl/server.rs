//! The HTTP API of a broker, as `ctl` sees it: where it is, who we are, and what its answers mean.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Body};

use super::text::escaped;
use crate::cli::settings::{self, File, Overrides};
use crate::cli::{CONFIG_ERROR, FAILURE, Failure};

/// Exit code where the broker cannot be reached.
pub(super) const UNREACHABLE: u8 = 3;
/// Exit code where the broker does not let us do it.
const REFUSED: u8 = 4;
/// Exit code where what was asked for is not there.
const NOT_FOUND: u8 = 5;

/// Where the API is unless something else is said.
const URL: &str = "http://127.0.0.1:8080";
/// The authorities that Debian and its descendants trust.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer may take to begin. A shard that does not answer is given up by the broker well before.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long the rest of an answer may take, where it is not a stream.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// Longest answer that is taken in whole.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest line of a stream: the largest packet of MQTT, in base64, and what stands around it.
const LINE_BYTES_MAX: u64 = 400 * 1024 * 1024;

/// Under which heading of the help the options are that lead to the broker.
const CONNECTION: &str = "Connection";

/// Where the API is, and who asks.
#[derive(Args)]
pub(super) struct Place {
    /// Where the HTTP API of the broker is. Unset: admin.address of the configuration, and without one http://127.0.0.1:8080
    #[arg(long, help_heading = CONNECTION, value_name = "URL", env = "WILLOWMQ_URL", global = true)]
    url: Option<String>,
    /// File with the token: the token alone, or lines as in admin.token_file, of which the first counts that may write. Unset:
    /// admin.token_file of the configuration
    #[arg(long, help_heading = CONNECTION, value_name = "FILE", env = "WILLOWMQ_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// File with the authorities (PEM) that the certificate of the broker must come from, instead of those of the system
    #[arg(long, help_heading = CONNECTION, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// File with our certificate (PEM), where the broker asks for one
    #[arg(long, help_heading = CONNECTION, value_name = "FILE", requires = "key", global = true)]
    cert: Option<PathBuf>,
    /// File with its private key (PEM)
    #[arg(long, help_heading = CONNECTION, value_name = "FILE", requires = "cert", global = true)]
    key: Option<PathBuf>,
}

/// The API of one broker.
pub(super) struct Server {
    agent: Agent,
    url: String,
    authorization: Option<String>,
    /// How long the rest of an answer may take, where it is not a stream.
    whole_within: Duration,
}

/// The parameters of a request; those without a value are left out.
pub(super) type Query<'a> = &'a [(&'a str, Option<String>)];

impl Place {
    /// The server there.
    ///
    /// # Errors
    /// What is wrong with the place, with a file, or with the configuration that should have told.
    pub(super) fn server(&self, file: &File) -> Result<Server, Failure> {
        let mut token_file = self.token_file.clone();
        let url = match &self.url {
            Some(url) => url.clone(),
            None => {
                let admin = settings::load(file, Overrides::default())?.admin;
                token_file = token_file.or(admin.token_file);
                let scheme = if admin.certificate.is_some() { "https" } else { "http" };
                admin.address.map_or_else(|| URL.to_owned(), |address| format!("{scheme}://{}", reachable(address)))
            }
        };
        let is_https = check_url(&url)?;
        let authorization =
            token_file.map(|file| read_token(&file)).transpose()?.map(|token| format!("Bearer {token}"));
        let agent = agent(if is_https { Some(self.tls()?) } else { None });
        let url = url.trim_end_matches('/').to_owned();
        Ok(Server { agent, url, authorization, whole_within: WHOLE_WITHIN })
    }

    fn tls(&self) -> Result<TlsConfig, Failure> {
        let authorities = match &self.ca {
            Some(file) => certificates(file)?,
            None if Path::new(SYSTEM_AUTHORITIES).exists() => certificates(Path::new(SYSTEM_AUTHORITIES))?,
            None => {
                return Err(Failure::usage(format!(
                    "there is no {SYSTEM_AUTHORITIES}: name the authorities with --ca"
                )));
            }
        };
        let mut ours = None;
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let fail = |error| Failure::usage(format!("{}: {error}", key.display()));
            let key = PrivateKey::from_pem(&read(key)?).map_err(fail)?;
            ours = Some(ClientCert::new_with_certs(&certificates(cert)?, key));
        }
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::from(authorities))
            .client_cert(ours)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build())
    }
}

/// An address that can be connected to: where the broker listens on all of them, that of this machine.
fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Whether the URL is one of https.
fn check_url(url: &str) -> Result<bool, Failure> {
    let wrong = |reason: &str| Failure::usage(format!("--url {:?}: {reason}", escaped(url)));
    let parsed: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
    let authority = parsed.authority().ok_or_else(|| wrong("it names no host; such as http://127.0.0.1:8080"))?;
    if authority.as_str().contains('@') || parsed.query().is_some() {
        return Err(wrong("credentials are given by --token-file, or by --cert and --key"));
    }
    match parsed.scheme_str() {
        Some("http") => Ok(false),
        Some("https") => Ok(true),
        _ => Err(wrong("it begins with neither http:// nor https://")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let wrong = |reason: &dyn std::fmt::Display| Failure::usage(format!("{}: {reason}", file.display()));
    let mut certificates = Vec::new();
    for item in parse_pem(&read(file)?) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(certificates) }
}

/// The token of a file: it stands there alone, or as a line of `name read|write token`, of which the first with "write" counts.
fn read_token(file: &Path) -> Result<String, Failure> {
    let wrong = |reason: &str| Failure::usage(format!("{}: {reason}", file.display()));
    let text = String::from_utf8(read(file)?).map_err(|_| wrong("it is not UTF-8"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut found: Option<(bool, &str)> = None;
    for line in lines {
        let (may_write, token) = match line.split_whitespace().collect::<Vec<_>>()[..] {
            [token] => (true, token),
            [_, "write", token] => (true, token),
            [_, "read", token] => (false, token),
            _ => return Err(wrong("a line is a token, or \"name read token\", or \"name write token\"")),
        };
        if found.is_none_or(|(could_write, _)| may_write && !could_write) {
            found = Some((may_write, token));
        }
    }
    let (_, token) = found.ok_or_else(|| wrong("there is no token in it"))?;
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(wrong("a token has printable ASCII characters alone")),
    }
}

fn agent(tls: Option<TlsConfig>) -> Agent {
    let config = Agent::config_builder()
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_recv_response(Some(ANSWER_WITHIN))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("willowmq-ctl/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity");
    match tls {
        Some(tls) => config.tls_config(tls).build().new_agent(),
        None => config.build().new_agent(),
    }
}

/// One segment of a path, or one value of a query: everything is encoded but what never means anything there.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => encoded.push(char::from(byte)),
            // A segment of dots alone would be taken for a step up, even where it is encoded.
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The path of something with a name, such as a client.
pub(super) fn path(before: &str, name: &str, after: &str) -> String {
    format!("{before}{}{after}", encoded(name))
}

impl Server {
    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What is there.
    pub(super) fn get(&self, path: &str, query: Query<'_>) -> Result<Value, Failure> {
        self.ask(Method::GET, path, query, None)
    }

    /// Asks, and waits for the whole answer; null where it is empty.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.judge(self.send(method, path, query, body, Some(self.whole_within))?)
    }

    /// The answer and its status, whatever that is.
    pub(super) fn ask_anyway(&self, path: &str) -> Result<(StatusCode, Value), Failure> {
        let response = self.send(Method::GET, path, &[], None, Some(self.whole_within))?;
        let status = response.status();
        match status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE {
            true => Ok((status, self.parse(response)?)),
            false => self.judge(response).map(|answer| (status, answer)),
        }
    }

    /// Hands over a list page by page, until it ends or `take` answers that it has enough.
    pub(super) fn pages(
        &self,
        path: &str,
        query: Query<'_>,
        mut take: impl FnMut(Vec<Value>) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut query = query.to_vec();
        query.push(("after", None));
        loop {
            let mut page = self.get(path, &query)?;
            let items = page.get_mut("items").map(Value::take);
            let Some(Value::Array(items)) = items else { return Err(self.not_understood(&"it is no list")) };
            let next = page["next"].as_str().map(str::to_owned);
            if !take(items)? || next.is_none() {
                return Ok(());
            }
            let after = &mut query.last_mut().expect("the cursor is the last").1;
            if *after == next {
                return Err(self.not_understood(&"its list never ends: the next page is this one"));
            }
            *after = next;
        }
    }

    /// Hands over the lines of a stream, until it ends or `take` answers that it has enough.
    pub(super) fn lines(
        &self,
        path: &str,
        query: Query<'_>,
        mut take: impl FnMut(Value) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let response = self.send(Method::GET, path, query, None, None)?;
        if !response.status().is_success() {
            return self.judge(response).map(drop);
        }
        let mut reader = BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = std::io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line);
            match read.map_err(|error| self.unreachable(&format_args!("the stream broke off: {error}")))? {
                0 => return Ok(()),
                _ if line.trim_ascii().is_empty() => {} // Sign of life.
                _ => {
                    let value = serde_json::from_slice(&line).map_err(|error| self.not_understood(&error))?;
                    if !take(value)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<&Value>,
        whole_within: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let mut uri = format!("{}{path}", self.url);
        let given = query.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        for (index, (name, value)) in given.enumerate() {
            uri.extend([if index == 0 { "?" } else { "&" }, name, "=", &encoded(value)]);
        }
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.run(request.body(body.to_string()), whole_within)
            }
            None => self.run(request.body(()), whole_within),
        }
    }

    fn run<B: AsSendBody>(
        &self,
        request: ureq::http::Result<Request<B>>,
        whole_within: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let request = request.map_err(|error| Failure::new(format!("the request cannot be made: {error}"), FAILURE))?;
        let request = self.agent.configure_request(request).timeout_recv_body(whole_within).build();
        self.agent.run(request).map_err(|error| match error {
            ureq::Error::Timeout(_) => self.unreachable(&"it does not answer in time"),
            ureq::Error::Io(error) => self.unreachable(&error),
            other => self.unreachable(&other),
        })
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Failure {
        let why = escaped(&why.to_string());
        let hint = match why.contains("certificate") {
            true => "see --ca, --cert and --key",
            false => "is the broker running, and is this the address of its HTTP API (--url, --config)?",
        };
        Failure::new(format!("cannot reach {}: {why}; {hint}", self.url), UNREACHABLE)
    }

    pub(super) fn not_understood(&self, why: &dyn std::fmt::Display) -> Failure {
        let said = format!("the answer of {} is not understood: {}", self.url, escaped(&why.to_string()));
        Failure::new(said, FAILURE)
    }

    fn parse(&self, mut response: Response<Body>) -> Result<Value, Failure> {
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&format_args!("the answer broke off: {error}")))?;
        match body.trim_ascii() {
            b"" => Ok(Value::Null),
            body => serde_json::from_slice(body).map_err(|error| self.not_understood(&error)),
        }
    }

    /// The answer where the status is a good one, and otherwise what the broker says is wrong.
    fn judge(&self, response: Response<Body>) -> Result<Value, Failure> {
        let status = response.status();
        let answer = self.parse(response);
        if status.is_success() {
            return answer;
        }
        let code = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => REFUSED,
            StatusCode::NOT_FOUND => NOT_FOUND,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => CONFIG_ERROR,
            _ => FAILURE,
        };
        let answer = answer.unwrap_or_default();
        let detail = answer["detail"].as_str().filter(|detail| !detail.is_empty()).or(answer["title"].as_str());
        let said = match (detail, status) {
            (Some(detail), _) => escaped(detail),
            (None, StatusCode::UNAUTHORIZED) => {
                "the broker asks who we are: see --token-file, --cert and --key".to_owned()
            }
            (None, status) => format!("the broker answers {status}"),
        };
        Err(Failure::new(said, code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends half an answer, and keeps the connection open.
    #[test]
    fn an_answer_that_stops_half_way_is_given_up() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let half = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").unwrap();
            let _ = stream.read_to_end(&mut Vec::new()); // Until the other end goes.
        });
        let server = Server { agent: agent(None), url, authorization: None, whole_within: Duration::from_millis(1) };
        let failure = server.get("/health/live", &[]).unwrap_err();
        assert!(failure.code == UNREACHABLE && failure.said.contains("broke off"), "{}", failure.said);
        drop(server);
        half.join().unwrap();
    }

    #[test]
    fn names_are_encoded_whatever_they_hold() {
        assert_eq!(path("/clients/", "a/b c%é..", "/trace"), "/clients/a%2Fb%20c%25%C3%A9%2E%2E/trace");
    }

    #[test]
    fn urls_are_checked() {
        assert!(!check_url("http://127.0.0.1:8080").unwrap());
        assert!(check_url("https://[::1]:8443/").unwrap());
        for wrong in ["127.0.0.1:8080", "ftp://a", "http://a:b@c", "/x", "", "http://a/?b=c"] {
            assert_eq!(check_url(wrong).unwrap_err().code, CONFIG_ERROR, "{wrong}");
        }
    }

    #[test]
    fn an_address_of_all_is_reached_on_this_machine() {
        for (listens, reached) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("192.0.2.1:3", "192.0.2.1:3")]
        {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), reached);
        }
    }

    #[test]
    fn tokens_are_found_in_both_kinds_of_files() {
        let path = std::env::temp_dir().join(format!("willowmq-token-{}", std::process::id()));
        let token = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_token(&path).map_err(|failure| failure.said)
        };
        assert_eq!(token("secret\n").as_deref(), Ok("secret"));
        assert_eq!(token("# ours\nwatch read r1\nops write w1\nother write w2\n").as_deref(), Ok("w1"));
        assert_eq!(token("watch read r1\n").as_deref(), Ok("r1"));
        assert!(token("a b\n").unwrap_err().contains("a line is"));
        assert!(token("\n#\n").unwrap_err().contains("no token"));
        assert!(token("sécret").unwrap_err().contains("ASCII"));
        std::fs::remove_file(path).unwrap();
    }
}
