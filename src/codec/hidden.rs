//! Secrets in packets, as they may be shown.

use std::fmt;

/// Shows of a secret how long it is: a packet may end in a log, or in the message of a panic.
pub(super) struct Hidden<'a>(pub(super) Option<&'a [u8]>);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(secret) => write!(f, "Some({} bytes)", secret.len()),
            None => f.write_str("None"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Auth, Connect, ProtocolVersion};

    #[test]
    fn packets_show_no_secrets() {
        let connect = Connect {
            password: Some(b"secret"),
            authentication_data: Some(b"proof"),
            ..Connect::new(ProtocolVersion::V5, "lamp")
        };
        let shown = format!("{connect:?}");
        let bytes = |secret: &[u8]| format!("{secret:?}");
        assert!(shown.contains("lamp") && shown.contains("password: Some(6 bytes)"), "{shown}");
        assert!(!shown.contains(&bytes(b"secret")) && !shown.contains(&bytes(b"proof")), "{shown}");
        let shown = format!("{:?}", Auth { authentication_data: Some(b"proof"), ..Auth::default() });
        assert!(shown.contains("authentication_data: Some(5 bytes)"), "{shown}");
    }
}
