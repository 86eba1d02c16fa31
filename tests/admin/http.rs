//! A small HTTP client that can also say what no client should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::harness::{Broker, PATIENCE};

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(of_field, _)| of_field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The sentence of a problem document with this status.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        let json = self.json();
        assert_eq!(json["status"], status);
        json["detail"].as_str().expect("a sentence").to_owned()
    }

    /// The JSON of a good answer.
    pub(crate) fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

/// A request, sent over a connection of its own.
pub(crate) struct Request {
    method: &'static str,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &'static str, target: &str) -> Self {
        Self { method, target: target.to_owned(), fields: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.field("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn json(self, json: &Value) -> Self {
        self.field("content-type", "application/json").body(json.to_string().as_bytes())
    }

    pub(crate) fn encode(&self, host: SocketAddr) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", self.method, self.target).into_bytes();
        let has_host = self.fields.iter().any(|(name, _)| name == "host");
        let host = (!has_host).then(|| ("host".to_owned(), host.to_string()));
        let length = (!self.body.is_empty()).then(|| ("content-length".to_owned(), self.body.len().to_string()));
        for (name, value) in self.fields.iter().chain(&host).chain(&length) {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }

    pub(crate) fn send(&self, broker: &Broker) -> Answer {
        let stream = connect(broker.admin());
        self.send_over(stream, broker.admin())
    }

    pub(crate) fn send_over(&self, mut stream: impl Read + Write, host: SocketAddr) -> Answer {
        stream.write_all(&self.encode(host)).unwrap();
        read(&mut BufReader::new(stream)).expect("an answer")
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn get(broker: &Broker, target: &str) -> Answer {
    Request::new("GET", target).send(broker)
}

pub(crate) fn post(broker: &Broker, target: &str, json: &Value) -> Answer {
    Request::new("POST", target).json(json).send(broker)
}

pub(crate) fn delete(broker: &Broker, target: &str) -> Answer {
    Request::new("DELETE", target).send(broker)
}

/// All items of a list, page by page, with so many on each; and how many pages there were.
pub(crate) fn items(broker: &Broker, target: &str, limit: usize) -> (Vec<Value>, usize) {
    let (mut all, mut after, mut pages) = (Vec::new(), String::new(), 0);
    let mark = if target.contains('?') { '&' } else { '?' };
    loop {
        let page = get(broker, &format!("{target}{mark}limit={limit}{after}")).good();
        let items = page["items"].as_array().expect("a list");
        assert!(items.len() <= limit);
        all.extend(items.iter().cloned());
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return (all, pages),
        }
    }
}

/// Reads a status line and the fields that follow.
pub(crate) fn read_head(stream: &mut impl BufRead) -> Option<Answer> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let status = line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 "))?.get(..3)?.parse().ok()?;
    let mut fields = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Some(Answer { status, fields, body: Vec::new() })
}

/// Reads an answer; `None`: the connection was closed without one.
pub(crate) fn read(stream: &mut impl BufRead) -> Option<Answer> {
    let mut answer = read_head(stream)?;
    match (answer.field("content-length"), answer.field("transfer-encoding")) {
        (Some(length), _) => {
            answer.body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut answer.body).ok()?;
        }
        (None, Some("chunked")) => {
            while let Some(chunk) = read_chunk(stream) {
                answer.body.extend(chunk);
            }
        }
        _ => {
            let _ = stream.read_to_end(&mut answer.body); // TLS may end without a goodbye.
        }
    }
    Some(answer)
}

fn read_chunk(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
    let mut chunk = vec![0; length + 2];
    stream.read_exact(&mut chunk).ok()?;
    chunk.truncate(length);
    (length > 0).then_some(chunk)
}

/// An answer that goes on: lines of JSON.
pub(crate) struct Stream {
    stream: BufReader<TcpStream>,
    text: Vec<u8>,
}

impl Stream {
    pub(crate) fn open(broker: &Broker, target: &str) -> Self {
        let mut stream = connect(broker.admin());
        stream.write_all(&Request::new("GET", target).encode(broker.admin())).unwrap();
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream).expect("an answer");
        assert_eq!((head.status, head.field("content-type")), (200, Some("application/x-ndjson")));
        Self { stream, text: Vec::new() }
    }

    /// The next line; `None`: the stream has ended.
    pub(crate) fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|&byte| byte == b'\n') {
                let line: Vec<_> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a line of JSON"));
            }
            self.text.extend(read_chunk(&mut self.stream)?);
        }
    }

    /// The next line in which this member has this value.
    pub(crate) fn line_with(&mut self, name: &str, value: &str) -> Value {
        loop {
            let line = self.line().expect("the stream goes on");
            if line[name] == value {
                return line;
            }
        }
    }
}
