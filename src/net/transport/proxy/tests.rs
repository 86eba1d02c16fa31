//! Headers of the PROXY protocol.

use proptest::prelude::*;

use super::*;

/// A header of version 2 for a connection over TCP and IPv4, with these entries after the addresses.
fn v2_header(command: u8, entries: &[u8]) -> Vec<u8> {
    let mut header = v2::PROTOCOL_PREFIX.to_vec();
    header.extend([0x20 | command, 0x11]);
    header.extend((12 + entries.len() as u16).to_be_bytes());
    header.extend([192, 0, 2, 7, 198, 51, 100, 1, 0x9C, 0x40, 0x22, 0xB3]);
    header.extend(entries);
    header
}

fn entry(kind: Type, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16).to_be_bytes();
    [&[u8::from(kind)], &length[..], value].concat()
}

fn ssl(client: u8, verify: u32, common_name: &[u8]) -> Vec<u8> {
    let value = [&[client], &verify.to_be_bytes()[..], &entry(Type::SSLCommonName, common_name)].concat();
    entry(Type::SSL, &value)
}

fn read(bytes: &[u8]) -> Result<Option<(Origin, usize)>, String> {
    Header::default().receive(bytes).map_err(|broken| broken.to_string())
}

fn source(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn version_1_says_where_the_client_is() {
    let read = |text: &str| read(text.as_bytes()).unwrap().unwrap();
    let (origin, length) = read("PROXY TCP4 192.0.2.7 198.51.100.1 40000 8883\r\n\x10");
    assert_eq!((origin.source, length), (source("192.0.2.7:40000"), 46));
    assert_eq!(read("PROXY TCP6 2001:db8::7 2001:db8::1 40000 8883\r\n").0.source, source("[2001:db8::7]:40000"));
    assert_eq!(read("PROXY UNKNOWN\r\n"), (Origin::default(), 15));
    assert_eq!(read("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n").0, Origin::default());
}

#[test]
fn version_2_says_where_the_client_is() {
    let (origin, length) = read(&v2_header(1, &[])).unwrap().unwrap();
    assert_eq!(origin, Origin { source: source("192.0.2.7:40000"), common_name: None });
    assert_eq!(length, 28);
}

/// The sender speaks for itself, such as when it looks whether we are alive.
#[test]
fn a_local_header_keeps_the_address_of_the_socket() {
    let header = v2_header(0, &ssl(7, 0, b"camera"));
    assert_eq!(read(&header).unwrap().unwrap(), (Origin::default(), header.len()));
}

#[test]
fn addresses_of_unix_sockets_and_none_keep_the_address_of_the_socket() {
    let mut unix = v2::PROTOCOL_PREFIX.to_vec();
    unix.extend([0x21, 0x31, 0, 216]);
    unix.extend([b'/'; 216]);
    assert_eq!(read(&unix).unwrap().unwrap(), (Origin::default(), 232));
    let mut none = v2::PROTOCOL_PREFIX.to_vec();
    none.extend([0x21, 0, 0, 0]);
    assert_eq!(read(&none).unwrap().unwrap(), (Origin::default(), 16));
}

#[test]
fn a_common_name_counts_if_the_sender_has_verified_the_certificate() {
    let name_in = |entries: &[u8]| read(&v2_header(1, entries)).unwrap().unwrap().0.common_name;
    let in_connection = 0x01 | 0x02;
    let in_session = 0x01 | 0x04;
    assert_eq!(name_in(&ssl(in_connection, 0, b"camera")).as_deref(), Some("camera"));
    assert_eq!(name_in(&ssl(in_session, 0, b"camera")).as_deref(), Some("camera"));
    let after_others = [entry(Type::Authority, b"broker"), ssl(in_connection, 0, b"camera")].concat();
    assert_eq!(name_in(&after_others).as_deref(), Some("camera"));
    assert_eq!(name_in(&ssl(in_connection, 1, b"camera")), None, "not verified");
    assert_eq!(name_in(&ssl(0x01, 0, b"camera")), None, "no certificate");
    assert_eq!(name_in(&entry(Type::SSLCommonName, b"camera")), None, "not in its place");
}

#[test]
fn entries_that_are_cut_short_are_malformed() {
    for entries in [&[0x20, 0, 9][..], &[0x20], &entry(Type::SSL, &[3, 0, 0]), &ssl(3, 0, b"\xFF")] {
        let error = read(&v2_header(1, entries)).unwrap_err();
        assert!(error.starts_with("PROXY protocol: the header is malformed"), "{error}");
    }
}

#[test]
fn a_checksum_is_verified_where_there_is_one() {
    let with_sum = |sum: u32| [entry(Type::NoOp, &[0; 3]), entry(Type::CRC32C, &sum.to_be_bytes())].concat();
    let sum = crc32c::crc32c(&v2_header(1, &with_sum(0)));
    assert!(read(&v2_header(1, &with_sum(sum))).is_ok());
    assert_eq!(
        read(&v2_header(1, &with_sum(sum ^ 1))).unwrap_err(),
        "PROXY protocol: the header is malformed: its checksum is wrong"
    );
}

#[test]
fn a_connection_without_a_header_is_told_at_once() {
    for bytes in [&b"\x10\x0c\0\x04MQTT"[..], b"GET / HTTP/1.1\r\n", b"PROXX", b"\r\n\r\nQUIT", b"\x16\x03\x01"] {
        assert_eq!(read(bytes).unwrap_err(), "PROXY protocol: the connection does not begin with a header");
    }
}

#[test]
fn headers_are_bounded() {
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'a'; 93]].concat();
    assert_eq!(read(&long[..106]), Ok(None));
    assert_eq!(read(&long).unwrap_err(), "PROXY protocol: the header is too long");
    let mut long = v2_header(1, &entry(Type::NoOp, &[0; 4065]));
    assert_eq!(long.len(), V2_BYTES_MAX);
    assert_eq!(read(&long).unwrap().unwrap().1, V2_BYTES_MAX);
    long[15] += 1;
    assert_eq!(read(&long[..16]).unwrap_err(), "PROXY protocol: the header is too long");
}

#[test]
fn malformed_headers_are_refused() {
    let texts = ["PROXY\r\n", "PROXY TCP4 192.0.2.7\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", "PROXY UNKNOWN\n"];
    for text in texts {
        assert!(read(text.as_bytes()).is_err(), "{text:?}");
    }
    let mut datagram = v2_header(1, &[]);
    datagram[13] = 0x12;
    assert_eq!(read(&datagram).unwrap_err(), "PROXY protocol: the header is malformed: it speaks of datagrams");
    let mut of_version_3 = v2_header(1, &[]);
    of_version_3[12] = 0x31;
    assert!(read(&of_version_3).is_err());
    let mut short = v2_header(1, &[]);
    short[15] = 8;
    assert!(read(&short).is_err());
}

#[test]
fn only_known_senders_are_believed() {
    let texts = ["192.0.2.1", "10.0.0.0/8", "fd00::/8", "::1", "::ffff:172.16.0.0/108"];
    let senders = Senders::parse(&texts.map(String::from)).unwrap();
    let trust = |text: &str| senders.trust(Some(text.parse().unwrap()));
    for address in ["192.0.2.1", "10.255.1.2", "::ffff:10.1.2.3", "fdab::1", "::1", "172.31.0.1"] {
        assert!(trust(address), "{address}");
    }
    for address in ["192.0.2.2", "11.0.0.1", "::ffff:11.0.0.1", "fe80::1", "::2", "127.0.0.1", "172.32.0.1"] {
        assert!(!trust(address), "{address}");
    }
    assert!(!senders.trust(None));
    assert!(!Senders::parse(&[]).unwrap().trust(Some(IpAddr::from([127, 0, 0, 1]))));
    assert!(Senders::parse(&["0.0.0.0/0".into()]).unwrap().trust(Some(IpAddr::from([8, 8, 8, 8]))));
    assert!(Senders::anyone().trust(None));
}

#[test]
fn senders_that_are_no_network_are_named() {
    for text in ["proxy.example.org", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "::ffff:10.0.0.0/8", ""] {
        let error = Senders::parse(&[text.into()]).err().unwrap().to_string();
        assert_eq!(
            error,
            format!("proxy_senders: {text:?} is neither an IP address nor a network such as \"10.0.0.0/8\"")
        );
    }
}

proptest! {
    /// However a header is cut, it says the same; and whatever comes, there is an answer.
    #[test]
    fn headers_may_come_in_any_pieces(
        is_noise in any::<bool>(),
        noise in prop::collection::vec(any::<u8>(), 0..300),
        at in 12..40_usize,
        cuts in prop::collection::vec(1..9_usize, 1..9)
    ) {
        let mut bytes = v2_header(1, &ssl(3, 0, b"camera"));
        if is_noise {
            bytes.splice(at.., noise);
        }
        let whole = read(&bytes).map(|origin| origin.map(|(origin, _)| origin));
        let mut header = Header::default();
        let (mut rest, mut result) = (&bytes[..], Ok(None));
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() || !matches!(result, Ok(None)) {
                break;
            }
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            result = header.receive(piece).map_err(|broken| broken.to_string()).map(|origin| origin.map(|(origin, _)| origin));
            rest = left;
        }
        prop_assert_eq!(result, whole);
        prop_assert!(header.bytes.len() <= V2_BYTES_MAX);
    }
}
