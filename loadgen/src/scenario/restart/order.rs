//! The order to drain, given to the HTTP API of the broker.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

/// How long the API may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer that is longer the rest is not of interest.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Where an order is given: the `host:port` of an HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(String);

impl FromStr for Order {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let address = url.strip_prefix("http://").ok_or("a URL that begins with http://")?.trim_end_matches('/');
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self(address.to_owned())),
            _ => Err("a URL with a host and a port, and no path: http://127.0.0.1:8080".to_owned()),
        }
    }
}

impl Order {
    /// Orders the broker to drain `over` this time, and stop.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or refuses.
    pub(super) fn give(&self, over: Duration, token: Option<&str>) -> Result<()> {
        let answer = self.post(over, token).with_context(|| format!("--drain http://{}", self.0))?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        match status {
            Some(200..=299) => Ok(()),
            _ => bail!("--drain http://{}: the broker answers {}", self.0, answer.lines().next().unwrap_or("nothing")),
        }
    }

    fn post(&self, over: Duration, token: Option<&str>) -> Result<String> {
        let address = self.0.to_socket_addrs()?.next().ok_or_else(|| anyhow!("the host has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let body = format!("{{\"over_seconds\":{}}}", over.as_secs_f64());
        let (host, length) = (&self.0, body.len());
        let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let head = "POST /api/v1/drain HTTP/1.1\r\n";
        let fields = format!("Host: {host}\r\n{token}Content-Type: application/json\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}{fields}Connection: close\r\n\r\n{body}").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// The token in a file.
///
/// # Errors
///
/// When it cannot be read, or is none that a header could hold.
pub(super) fn read_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--token-file {}", path.display()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("--token-file {}: one line of ASCII without blanks is needed", path.display());
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_order_goes_to_a_host_and_port() {
        for right in ["http://127.0.0.1:8080", "http://localhost:1/", "http://[::1]:8080"] {
            assert!(right.parse::<Order>().is_ok(), "{right}");
        }
        for wrong in ["127.0.0.1:8080", "https://127.0.0.1:8080", "http://127.0.0.1", "http://:1", "http://a:1/b"] {
            assert!(wrong.parse::<Order>().is_err(), "{wrong}");
        }
    }

    /// What a broker that answers so is asked, and what comes of it.
    fn asked(answer: &'static str) -> (String, Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let order: Order = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let given = order.give(Duration::from_millis(2500), Some("secret"));
        (server.join().unwrap(), given)
    }

    #[test]
    fn the_order_is_a_post_with_the_time_and_the_token() {
        let (request, given) = asked("HTTP/1.1 202 Accepted\r\n\r\n{}");
        assert!(request.starts_with("POST /api/v1/drain HTTP/1.1\r\n") && request.ends_with("{\"over_seconds\":2.5}"));
        assert!(request.contains("Authorization: Bearer secret\r\n"), "{request}");
        given.unwrap();
    }

    #[test]
    fn a_refusal_is_told() {
        let error = asked("HTTP/1.1 401 Unauthorized\r\n\r\n").1.unwrap_err();
        assert!(error.to_string().contains("401 Unauthorized"), "{error}");
    }
}
