//! The header of the PROXY protocol: where a connection comes from, told by the load balancer before us.
//!
//! Whoever may send such a header may claim any address. So it is taken from known [`Senders`] only, and a listener that expects it
//! takes no connection without one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Command, Protocol, Type};
use ppp::{v1, v2};

use super::{Broken, TransportError};

/// Longest header of version 1, with its line end (§2.1 of the specification).
const V1_BYTES_MAX: usize = 107;
/// What comes before the length in a header of version 2, and that length.
const V2_FIXED_BYTES: usize = 16;
/// Longest header of version 2 that we take. Addresses, names and certificate facts need a few hundred bytes.
const V2_BYTES_MAX: usize = 4096;
/// How every header of version 1 begins.
const V1_BEGINNING: &[u8] = b"PROXY ";

/// Bits of the type-length-value `PP2_TYPE_SSL`: the client has shown a certificate in this connection, or in the TLS session it belongs to.
const CLIENT_CERTIFICATE: u8 = 0x02 | 0x04;
/// What stands before the value of an entry in a header of version 2: its type and length.
const ENTRY_FIXED_BYTES: usize = 3;
/// What stands in `PP2_TYPE_SSL` before the values in it: the bits, and what came out of the verification.
const SSL_FIXED_BYTES: usize = 5;

/// Whose headers are believed.
pub(super) struct Senders {
    /// `None`: anybody's, because whoever reaches the socket was let in by its permissions.
    networks: Option<Vec<Network>>,
}

impl Senders {
    pub(super) fn anyone() -> Self {
        Self { networks: None }
    }

    /// Addresses and networks: `192.0.2.1`, `10.0.0.0/8`, `fd00::/8`.
    pub(super) fn parse(texts: &[String]) -> Result<Self, TransportError> {
        let networks = texts.iter().map(|text| {
            let problem = || format!("{text:?} is neither an IP address nor a network such as \"10.0.0.0/8\"");
            Network::parse(text).ok_or_else(|| TransportError::setting("proxy_senders", problem()))
        });
        Ok(Self { networks: Some(networks.collect::<Result<_, _>>()?) })
    }

    pub(super) fn trust(&self, peer: Option<IpAddr>) -> bool {
        let Some(networks) = &self.networks else { return true };
        // An IPv4 client of an IPv6 socket has a mapped address.
        peer.is_some_and(|peer| networks.iter().any(|network| network.contains(peer.to_canonical())))
    }
}

/// All addresses that begin with the same bits.
struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |prefix: &&str| prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits = match prefix {
            Some(prefix) => Some(prefix).filter(is_number)?.parse().ok().filter(|&prefix| prefix <= bits)?,
            None => bits,
        };
        // A mapped network is one of IPv4: 96 bits of its prefix are the mark of the mapping.
        match address.to_canonical() {
            canonical if canonical == address => Some(Self { address, prefix_bits }),
            canonical => Some(Self { address: canonical, prefix_bits: prefix_bits.checked_sub(96)? }),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u32::from(own) ^ u32::from(other);
                differing.leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = u128::from(own) ^ u128::from(other);
                differing.leading_zeros() >= self.prefix_bits
            }
            _ => false,
        }
    }
}

/// What a header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// Where the client is; `None` where the sender speaks for itself, or does not know.
    pub(super) source: Option<SocketAddr>,
    /// Common Name of the certificate that the client has shown to the sender, and that the sender has verified.
    pub(super) common_name: Option<Box<str>>,
}

/// A header of which the end has not come yet.
#[derive(Default)]
pub(super) struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// Takes more of the connection's first bytes. Once the header is complete, it returns what that says, and how many of these bytes
    /// belong to it.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Option<(Origin, usize)>, Broken> {
        let before = self.bytes.len();
        // More than a header may have is never looked at, so it is not kept either.
        let taken = bytes.len().min(V2_BYTES_MAX - before);
        self.bytes.extend_from_slice(&bytes[..taken]);
        let Some(length) = length(&self.bytes).map_err(Broken::Proxy)? else { return Ok(None) };
        let origin = parse(&self.bytes[..length]).map_err(Broken::Proxy)?;
        // A header is judged as soon as its last byte is there, so that byte is one of these.
        Ok(Some((origin, length - before)))
    }
}

/// How long the header is that `bytes` begin with, if it is there in full.
fn length(bytes: &[u8]) -> Result<Option<usize>, ProxyFault> {
    if begins_like(bytes, V1_BEGINNING) {
        let end = bytes.iter().take(V1_BYTES_MAX).position(|&byte| byte == b'\n');
        return match end {
            Some(end) => Ok(Some(end + 1)),
            None if bytes.len() >= V1_BYTES_MAX => Err(ProxyFault::TooLong),
            None => Ok(None),
        };
    }
    if !begins_like(bytes, v2::PROTOCOL_PREFIX) {
        return Err(ProxyFault::Missing);
    }
    let Some(&[high, low]) = bytes.get(V2_FIXED_BYTES - 2..V2_FIXED_BYTES) else { return Ok(None) };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    match length {
        _ if length > V2_BYTES_MAX => Err(ProxyFault::TooLong),
        _ if length > bytes.len() => Ok(None),
        _ => Ok(Some(length)),
    }
}

/// Whether `bytes` are `beginning`, with more after it or cut short.
fn begins_like(bytes: &[u8], beginning: &[u8]) -> bool {
    let common = bytes.len().min(beginning.len());
    bytes[..common] == beginning[..common]
}

fn parse(header: &[u8]) -> Result<Origin, ProxyFault> {
    if header.starts_with(V1_BEGINNING) {
        let header = v1::Header::try_from(header).map_err(|error| ProxyFault::Malformed(error.to_string()))?;
        return Ok(Origin { source: v1_source(&header.addresses), common_name: None });
    }
    let header = v2::Header::try_from(header).map_err(|error| ProxyFault::Malformed(error.to_string()))?;
    check_sum(&header)?;
    if header.command == Command::Local {
        return Ok(Origin::default()); // The sender itself, looking whether we are there.
    }
    if header.protocol == Protocol::Datagram {
        return Err(ProxyFault::Malformed("it speaks of datagrams".into()));
    }
    let source = match &header.addresses {
        Addresses::IPv4(pair) => Some((pair.source_address, pair.source_port).into()),
        Addresses::IPv6(pair) => Some((pair.source_address, pair.source_port).into()),
        Addresses::Unix(_) | Addresses::Unspecified => None,
    };
    Ok(Origin { source, common_name: common_name(&header)? })
}

fn v1_source(addresses: &v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        v1::Addresses::Tcp4(pair) => Some((pair.source_address, pair.source_port).into()),
        v1::Addresses::Tcp6(pair) => Some((pair.source_address, pair.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

/// Whoever reads the checksum has to verify it, where there is one (§2.2.4).
fn check_sum(header: &v2::Header<'_>) -> Result<(), ProxyFault> {
    let bytes = header.as_bytes();
    let mut value_at = bytes.len() - header.tlv_bytes().len() + ENTRY_FIXED_BYTES;
    for entry in header.tlvs() {
        let entry = entry.map_err(|error| ProxyFault::Malformed(error.to_string()))?;
        let value_end = value_at + entry.value.len();
        if entry.kind == u8::from(Type::CRC32C) {
            // It was computed with zeros in its own place.
            let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..value_at]), &[0; 4]);
            let sum = crc32c::crc32c_append(sum, &bytes[value_end..]);
            if *entry.value != sum.to_be_bytes() {
                return Err(ProxyFault::Malformed("its checksum is wrong".into()));
            }
        }
        value_at = value_end + ENTRY_FIXED_BYTES;
    }
    Ok(())
}

/// The Common Name in a header of version 2, if the sender says that it has verified the certificate.
fn common_name(header: &v2::Header<'_>) -> Result<Option<Box<str>>, ProxyFault> {
    let Some(ssl) = value(header.tlvs(), Type::SSL)? else { return Ok(None) };
    let Some((&[client, ref verify @ ..], values)) = ssl.split_first_chunk::<SSL_FIXED_BYTES>() else {
        return Err(ProxyFault::Malformed("what it says of TLS is cut short".into()));
    };
    // Zero says that the verification succeeded.
    if client & CLIENT_CERTIFICATE == 0 || *verify != [0; 4] {
        return Ok(None);
    }
    let Some(name) = value(v2::TypeLengthValues::from(values), Type::SSLCommonName)? else { return Ok(None) };
    match std::str::from_utf8(name) {
        Ok(name) => Ok(Some(name.into())),
        Err(_) => Err(ProxyFault::Malformed("the Common Name is no UTF-8".into())),
    }
}

/// The value of the first entry of this type.
fn value(entries: v2::TypeLengthValues<'_>, of_type: Type) -> Result<Option<&[u8]>, ProxyFault> {
    for entry in entries {
        let entry = entry.map_err(|error| ProxyFault::Malformed(error.to_string()))?;
        if entry.kind == u8::from(of_type)
            && let std::borrow::Cow::Borrowed(value) = entry.value
        {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Why there is no header that we take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyFault {
    /// The connection begins with something else.
    Missing,
    /// It is longer than a header may be.
    TooLong,
    /// It breaks the rules.
    Malformed(String),
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the connection does not begin with a header"),
            Self::TooLong => f.write_str("the header is too long"),
            Self::Malformed(problem) => write!(f, "the header is malformed: {problem}"),
        }
    }
}

#[cfg(test)]
mod tests;
