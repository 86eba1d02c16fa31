//! The places where clients are to connect.

use std::net::SocketAddr;

use willowmq::net::StartError;

use crate::cli::doctor::facts::{Occupant, Place};
use crate::cli::doctor::finding::Finding;

/// Ports below this one are for the superuser, and for who has CAP_NET_BIND_SERVICE.
const PRIVILEGED: u16 = 1024;

/// Whether a listener, or the HTTP server, could listen there. A WillowMQ that has the place is fine if it `is_ours`, which is asked by its
/// process.
pub(in crate::cli::doctor) fn place(place: &Place, is_ours: impl Fn(u32) -> bool) -> Finding {
    let Place { subject, at, result, occupant } = place;
    let subject = subject.as_str();
    match result {
        Ok(()) => Finding::fine(subject, format!("{at} is free")),
        Err(StartError::AddressInUse { .. }) => match occupant {
            Some(Occupant { name, pid }) if name == "willowmq" && is_ours(*pid) => {
                Finding::fine(subject, format!("{at}: WillowMQ listens there (process {pid})"))
            }
            Some(Occupant { name, pid }) if name == "willowmq" => Finding::wrong(
                subject,
                format!("{at} is taken by another WillowMQ (process {pid}), which does not use this data directory"),
                "stop it, or give another address in the configuration",
            ),
            Some(Occupant { name, pid }) => Finding::wrong(
                subject,
                format!("{at} is taken by {name:?} (process {pid})"),
                format!("stop it (systemctl stop {name}), or give another address in the configuration"),
            ),
            None => Finding::wrong(
                subject,
                format!("{at} is taken, and this user may not see by whom. If it is WillowMQ itself, all is fine"),
                format!("sudo ss -ltnp sport = :{}", port(at)),
            ),
        },
        Err(error) if is_denied(error) && port(at) < PRIVILEGED => Finding::wrong(
            subject,
            format!("{at}: ports below {PRIVILEGED} are not for this user"),
            "in the systemd unit: AmbientCapabilities=CAP_NET_BIND_SERVICE (ours has it)\n\
             or: setcap cap_net_bind_service=+ep \"$(command -v willowmq)\"\n\
             or: sysctl -w net.ipv4.ip_unprivileged_port_start=80",
        ),
        Err(error) if is_not_here(error) => Finding::wrong(
            subject,
            format!("{at}: this machine does not have that address"),
            "ip -brief address   # shows those that it has; 0.0.0.0 is all of them",
        ),
        Err(error) => Finding::wrong(subject, error.to_string(), ""),
    }
}

fn port(at: &str) -> u16 {
    at.parse::<SocketAddr>().map_or(u16::MAX, |address| address.port())
}

fn is_denied(error: &StartError) -> bool {
    matches!(error, StartError::Listen { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn is_not_here(error: &StartError) -> bool {
    matches!(error, StartError::Listen { error, .. } if error.kind() == std::io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::cli::doctor::finding::Verdict;
    use willowmq::net::Endpoint;

    fn found(at: &str, error: Option<io::ErrorKind>, occupant: Option<(&str, u32)>) -> Finding {
        let endpoint = || Endpoint::Address(at.parse().unwrap());
        let result = match error {
            None => Ok(()),
            Some(io::ErrorKind::AddrInUse) => Err(StartError::AddressInUse { at: endpoint() }),
            Some(kind) => Err(StartError::Listen { at: endpoint(), error: kind.into() }),
        };
        let occupant = occupant.map(|(name, pid)| Occupant { name: name.to_owned(), pid });
        place(&Place { subject: "listener 0".into(), at: at.into(), result, occupant }, |pid| pid == 7)
    }

    #[test]
    fn a_free_port_is_fine_and_so_is_one_that_we_have() {
        assert_eq!(found("0.0.0.0:1883", None, None).verdict, Verdict::Fine);
        let ours = found("0.0.0.0:1883", Some(io::ErrorKind::AddrInUse), Some(("willowmq", 7)));
        assert_eq!(
            (ours.verdict, ours.said.as_str()),
            (Verdict::Fine, "0.0.0.0:1883: WillowMQ listens there (process 7)")
        );
    }

    #[test]
    fn a_taken_port_is_wrong_and_names_who_has_it() {
        let another = found("0.0.0.0:1883", Some(io::ErrorKind::AddrInUse), Some(("willowmq", 8)));
        assert!(
            another.verdict == Verdict::Wrong && another.said.contains("another WillowMQ (process 8)"),
            "{another:?}"
        );
        let other = found("0.0.0.0:1883", Some(io::ErrorKind::AddrInUse), Some(("mosquitto", 7)));
        assert_eq!(other.verdict, Verdict::Wrong);
        assert!(
            other.said.contains("\"mosquitto\" (process 7)") && other.advice[0].contains("systemctl stop mosquitto")
        );
        let unknown = found("[::]:1883", Some(io::ErrorKind::AddrInUse), None);
        assert_eq!(unknown.advice, ["sudo ss -ltnp sport = :1883"]);
    }

    #[test]
    fn low_ports_and_foreign_addresses_have_their_own_advice() {
        let low = found("0.0.0.0:443", Some(io::ErrorKind::PermissionDenied), None);
        assert!(low.verdict == Verdict::Wrong && low.advice[0].contains("CAP_NET_BIND_SERVICE"), "{low:?}");
        let foreign = found("192.0.2.1:1883", Some(io::ErrorKind::AddrNotAvailable), None);
        assert!(foreign.advice[0].starts_with("ip -brief address"), "{foreign:?}");
        let other = found("192.0.2.1:1883", Some(io::ErrorKind::PermissionDenied), None);
        assert!(other.verdict == Verdict::Wrong && other.advice.is_empty(), "{other:?}");
    }
}
