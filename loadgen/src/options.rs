//! What every scenario is told on the command line.

use std::any::TypeId;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Command, ValueEnum};
use serde::{Deserialize, Serialize};
use willowmq::codec::{Connect, ProtocolVersion, QoS};
use willowmq::topic::TopicName;

use crate::engine::{Route, Sources, TlsSettings, Transport, TransportKind};
use crate::stamp::STAMP_BYTES;

/// What every scenario is told on the command line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Broker, clients and results")]
pub struct Common {
    /// Address of the broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", global = true)]
    pub broker: String,
    /// What MQTT travels on
    #[arg(long, value_enum, default_value_t = TransportKind::Tcp, global = true)]
    pub transport: TransportKind,
    /// Authorities that the broker's certificate must come from, in PEM [default: those that the system trusts]
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// Name that is asked for by TLS (SNI), and that the broker's certificate must have
    #[arg(long, value_name = "NAME", default_value = "localhost", global = true)]
    pub tls_name: String,
    /// Accept any certificate of the broker
    #[arg(long, conflicts_with = "ca", global = true)]
    pub insecure: bool,
    /// Certificate that every client shows, with its chain, in PEM
    #[arg(long, value_name = "FILE", requires = "key", global = true)]
    pub cert: Option<PathBuf>,
    /// Private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert", global = true)]
    pub key: Option<PathBuf>,
    /// Resume TLS sessions of earlier connections, instead of making every handshake a full one
    #[arg(long, global = true)]
    pub resume: bool,
    /// Offer the key exchange X25519MLKEM768 first, which costs more
    #[arg(long, global = true)]
    pub post_quantum: bool,
    /// Path of the WebSocket
    #[arg(long, value_name = "PATH", default_value = "/mqtt", global = true)]
    pub ws_path: String,
    /// Version of the protocol
    #[arg(long, value_enum, default_value_t = Version::V5, global = true)]
    pub mqtt: Version,
    /// User Name of every client; `{client}` is its Client Identifier
    #[arg(long, value_name = "NAME", global = true)]
    pub username: Option<String>,
    /// File with the Password of every client (a line end at its end is not part of it)
    #[arg(long, value_name = "FILE", requires = "username", global = true)]
    pub password_file: Option<PathBuf>,
    /// Beginning of every Client Identifier [default: loadgen-RANDOM-]
    #[arg(long, value_name = "TEXT", global = true)]
    pub client_prefix: Option<String>,
    /// First levels of every topic [default: loadgen/RANDOM]
    #[arg(long, value_name = "TOPIC", global = true)]
    pub topic_prefix: Option<String>,
    /// Source addresses that the clients take turns with
    #[arg(long, value_name = "FIRST-LAST", global = true)]
    pub source: Option<Sources>,
    /// Keep Alive of every client, in whole seconds; 0 turns it off
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, global = true)]
    pub keep_alive: Duration,
    /// Connections that are being opened at the same time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one, global = true)]
    pub connect_concurrency: usize,
    /// Connections opened per second at most
    #[arg(long, value_name = "RATE", value_parser = rate, global = true)]
    pub connect_rate: Option<f64>,
    /// Process of the broker, whose CPU time and memory are measured with those of its descendants; can be repeated
    #[arg(long, value_name = "PID", global = true)]
    pub pid: Vec<u32>,
    /// CPU that the generator runs on, so that it does not get in the broker's way; can be repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..1024), global = true)]
    pub cpu: Vec<u16>,
    /// Give up when nothing happens for this long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, global = true)]
    pub patience: Duration,
    /// Let losses at QoS 0 fail the run, too
    #[arg(long, global = true)]
    pub strict: bool,
    /// What the run is called in tables and plots [default: the broker's address]
    #[arg(long, value_name = "TEXT", global = true)]
    pub label: Option<String>,
    /// Write the results as JSON to this file, or to standard output for `-`
    #[arg(long, value_name = "FILE", global = true)]
    pub json: Option<PathBuf>,
    /// Write the results as a page to look at
    #[arg(long, value_name = "FILE.html", global = true)]
    pub report: Option<PathBuf>,
    /// Print neither progress nor summary
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Version {
    /// MQTT 3.1.1
    #[value(name = "3.1.1", alias = "311", alias = "4")]
    #[serde(rename = "3.1.1")]
    V3_1_1,
    /// MQTT 5.0
    #[value(name = "5", alias = "5.0")]
    #[serde(rename = "5")]
    V5,
}

impl From<Version> for ProtocolVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V3_1_1 => Self::V3_1_1,
            Version::V5 => Self::V5,
        }
    }
}

/// A string of the protocol has at most this many bytes (§1.5.4).
const STRING_BYTES_MAX: usize = 65_535;
/// A prefix has at most this many bytes, so that there is room for what comes after it.
const PREFIX_BYTES_MAX: usize = 65_000;

/// As a User Name: each client has its own, which is its Client Identifier.
const CLIENT: &str = "{client}";

/// Who the clients say they are.
#[derive(Clone, Debug)]
pub struct Identity {
    version: ProtocolVersion,
    keep_alive: u16,
    username: Option<String>,
    password: Option<Vec<u8>>,
}

impl Identity {
    /// A CONNECT with Clean Start and without a will.
    pub fn connect<'a>(&'a self, client_id: &'a str) -> Connect<'a> {
        let mut connect = Connect::new(self.version, client_id);
        connect.keep_alive = self.keep_alive;
        connect.username = match self.username.as_deref() {
            Some(CLIENT) => Some(client_id),
            other => other,
        };
        connect.password = self.password.as_deref();
        connect
    }
}

impl Common {
    /// Finds out before a run what would make it worthless afterwards.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, a topic is none, a name is too long, or there is no patience at all.
    pub fn check(&self) -> Result<()> {
        for (option, path) in [("--json", &self.json), ("--report", &self.report)] {
            if let Some(path) = path.as_deref().filter(|path| *path != Path::new("-")) {
                check_writable(path).with_context(|| format!("{option} {}", path.display()))?;
            }
        }
        if let Some(prefix) = &self.topic_prefix {
            TopicName::parse(prefix).map_err(|error| anyhow!("--topic-prefix {prefix}: {error}"))?;
        }
        check_length("--client-prefix", self.client_prefix.as_deref().map(str::len), PREFIX_BYTES_MAX)?;
        check_length("--topic-prefix", self.topic_prefix.as_deref().map(str::len), PREFIX_BYTES_MAX)?;
        check_length("--username", self.username.as_deref().map(str::len), STRING_BYTES_MAX)?;
        if self.patience.is_zero() {
            bail!("--patience is more than 0: no broker answers at once");
        }
        self.check_transport()
    }

    /// Refuses options of a transport that is not there.
    fn check_transport(&self) -> Result<()> {
        let of_tls = [
            ("--ca", self.ca.is_some()),
            ("--insecure", self.insecure),
            ("--cert", self.cert.is_some()),
            ("--resume", self.resume),
            ("--post-quantum", self.post_quantum),
        ];
        if let Some((option, _)) = of_tls.iter().find(|(_, is_given)| *is_given && !self.transport.has_tls()) {
            bail!("{option} is of --transport tls and wss");
        }
        let is_path = self.ws_path.starts_with('/') && self.ws_path.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_path {
            bail!("--ws-path {}: expected a path such as /mqtt, without spaces", self.ws_path);
        }
        Ok(())
    }

    /// What MQTT travels on to `target`.
    fn transport(&self, target: SocketAddr) -> Result<Transport> {
        let settings = TlsSettings {
            authorities: self.ca.as_deref(),
            name: &self.tls_name,
            identity: self.cert.as_deref().zip(self.key.as_deref()),
            accepts_any: self.insecure,
            resumes: self.resume,
            is_post_quantum: self.post_quantum,
        };
        Transport::new(self.transport, target, &self.ws_path, &settings)
    }

    /// Who the clients say they are.
    ///
    /// # Errors
    ///
    /// When the password cannot be read or is too long, or Keep Alive is no number of seconds that the protocol has.
    pub fn identity(&self) -> Result<Identity> {
        if self.keep_alive.subsec_nanos() != 0 || self.keep_alive.as_secs() > u64::from(u16::MAX) {
            bail!("--keep-alive is in whole seconds, up to 65535s");
        }
        let password = match &self.password_file {
            None => None,
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("--password-file {}", path.display()))?;
                Some(
                    text.strip_suffix(b"\n")
                        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
                        .unwrap_or(text),
                )
            }
        };
        check_length("--password-file: the password", password.as_deref().map(<[u8]>::len), STRING_BYTES_MAX)?;
        Ok(Identity {
            version: self.mqtt.into(),
            keep_alive: self.keep_alive.as_secs() as u16,
            username: self.username.clone(),
            password,
        })
    }

    /// Where the clients connect to, and from where.
    ///
    /// # Errors
    ///
    /// When the broker's name has no address, or what TLS needs cannot be read.
    pub fn route(&self) -> Result<Route> {
        if let Some((scheme, _)) = self.broker.split_once("://") {
            bail!(
                "--broker {}: expected HOST:PORT, without {scheme}:// (--transport names TLS and WebSocket)",
                self.broker
            );
        }
        let mut addresses = self
            .broker
            .to_socket_addrs()
            .with_context(|| format!("--broker {}: expected HOST:PORT", self.broker))?
            .collect::<Vec<SocketAddr>>();
        addresses.sort_by_key(SocketAddr::is_ipv6); // `localhost` is 127.0.0.1 to most brokers.
        let target = addresses.first().copied().with_context(|| format!("{} has no address", self.broker))?;
        Ok(Route { target, sources: self.source, transport: self.transport(target)? })
    }
}

/// Takes the options of every scenario out of the help of `command`, for which they mean nothing.
pub fn hide_common(command: Command) -> Command {
    let common = Common::augment_args(Command::new("common"));
    command.args(common.get_arguments().map(|option| option.clone().hide(true)))
}

/// Lets `-1` and `-1s` be values of options that take a number or a duration: they are refused by what parses them, with
/// the reason, and not as options that there are not.
pub fn let_values_be_negative(program: Command) -> Command {
    let numbers = [
        TypeId::of::<usize>(),
        TypeId::of::<u32>(),
        TypeId::of::<u16>(),
        TypeId::of::<f64>(),
        TypeId::of::<QoS>(),
        TypeId::of::<Duration>(),
    ];
    program
        .mut_args(|option| {
            let parsed = option.get_value_parser().type_id();
            if numbers.iter().any(|number| parsed == *number) { option.allow_hyphen_values(true) } else { option }
        })
        .mut_subcommands(let_values_be_negative)
}

/// Parses a duration such as `250ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; expected a duration such as 250ms, 30s or 2h"))
}

/// Parses a QoS.
pub fn qos(text: &str) -> Result<QoS, String> {
    text.parse().ok().and_then(QoS::new).ok_or_else(|| "expected 0, 1 or 2".into())
}

/// Parses a number above zero.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".into())
}

/// Parses so many per second, in bounds within which a schedule can be kept.
pub fn rate(text: &str) -> Result<f64, String> {
    const MIN: f64 = 1e-3;
    const MAX: f64 = 1e7;
    let rate = text.parse::<f64>().ok().filter(|rate| (MIN..=MAX).contains(rate));
    rate.ok_or_else(|| format!("expected a number from {MIN} to {MAX}"))
}

/// Parses a count above zero.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    const MAX: usize = u32::MAX as usize; // A client's number has 32 bits.
    let count = text.parse().ok().filter(|count| (1..=MAX).contains(count));
    count.ok_or_else(|| format!("expected a whole number from 1 to {MAX}"))
}

/// Fails if `what` has more than `max` bytes.
fn check_length(what: &str, bytes: Option<usize>, max: usize) -> Result<()> {
    match bytes {
        Some(bytes) if bytes > max => bail!("{what} has {bytes} bytes, and can have {max} at most"),
        _ => Ok(()),
    }
}

/// Fails if `path` cannot be written; leaves what is there alone.
pub(crate) fn check_writable(path: &Path) -> std::io::Result<()> {
    let is_new = !path.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    if is_new { std::fs::remove_file(path) } else { Ok(()) }
}

/// Parses a share from 0 to 1, or a percentage.
pub fn fraction(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    let within = number.ok().filter(|number| (0.0..=1.0).contains(number));
    within.ok_or_else(|| "expected a fraction from 0 to 1, or a percentage".into())
}

/// Parses the size of a payload, which has room for a stamp.
pub fn payload_bytes(text: &str) -> Result<usize, String> {
    const MAX: usize = 16 << 20;
    let size = text.parse().ok().filter(|size| (STAMP_BYTES..=MAX).contains(size));
    size.ok_or_else(|| format!("expected a number of bytes from {STAMP_BYTES} (what a checked payload takes) to {MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_at_the_door() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("5").is_err() && duration("soon").is_err());
        assert_eq!(fraction("25%"), Ok(0.25));
        assert!(fraction("1.5").is_err() && fraction("-1%").is_err() && fraction("NaN").is_err());
        assert!(qos("3").is_err() && qos("2").is_ok());
        assert!(positive("0").is_err() && positive("inf").is_err() && positive("2.5").is_ok());
        assert!(payload_bytes("23").is_err() && payload_bytes("24").is_ok());
    }
}
