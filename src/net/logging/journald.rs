//! The log in systemd's journal, each line with its fields.
//!
//! An entry is a datagram of fields, as in systemd's "Native Journal Protocol". It is made where the line is logged, and sent by
//! the thread that writes the log: a journal that takes nothing must not stop a shard.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where the journal takes entries.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// The name by which `journalctl -t` finds our entries.
const IDENTIFIER: &str = "willowmq";
/// Of a longer value the rest is left out: the kernel refuses large datagrams.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The journal takes no longer names of fields.
const NAME_BYTES_MAX: usize = 64;

/// The layer that makes entries.
pub(super) struct Journald(NonBlocking);

impl Journald {
    /// Hands entries to `writer`, which leads to [`Entries`].
    pub(super) fn new(writer: NonBlocking) -> Self {
        Self(writer)
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let _ = self.0.clone().write_all(&entry_of(event)); // It takes everything, or loses it.
    }
}

/// The journal's socket. Each write is an entry.
pub(super) struct Entries {
    socket: UnixDatagram,
    /// It is said once that the journal takes nothing.
    has_failed: bool,
}

impl Entries {
    /// Connects to the journal.
    ///
    /// # Errors
    /// What the system says: there is none, or we may not.
    pub(super) fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self { socket, has_failed: false })
    }
}

impl Write for Entries {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // The socket may be another one after the journal was started again.
        let sent = self.socket.send(entry).or_else(|_| {
            self.socket.connect(SOCKET)?;
            self.socket.send(entry)
        });
        match sent {
            Ok(_) => self.has_failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    eprintln!("willowmq: journald takes no entries: {error}; until it does, they go here");
                }
                let _ = io::stderr().write_all(entry);
            }
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as an entry of the journal.
fn entry_of(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    // See syslog(3). What is to be seen only where it is asked for is "debug" there.
    let priority = match *metadata.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    let mut fields = Fields(Vec::with_capacity(256));
    fields.append("PRIORITY", priority);
    fields.append("SYSLOG_IDENTIFIER", IDENTIFIER);
    fields.append("TARGET", metadata.target());
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        fields.append("CODE_FILE", file);
        fields.append("CODE_LINE", &line.to_string());
    }
    event.record(&mut fields);
    fields.0
}

struct Fields(Vec<u8>);

impl Fields {
    fn append(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(VALUE_BYTES_MAX)];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    /// A field of ours. The prefix keeps it apart from those that the journal knows.
    fn append_own(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.append("MESSAGE", value);
        }
        let allowed =
            field.name().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        let name: String = "WILLOWMQ_".chars().chain(allowed).take(NAME_BYTES_MAX).collect();
        self.append(&name, value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.append_own(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.append_own(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// Runs `job` with a log whose entries go to a socket as the journal has it; the entries.
    fn entries_of(count: usize, job: impl FnOnce()) -> Vec<String> {
        let path = std::env::temp_dir().join(format!("willowmq-journald-{count}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let journal = UnixDatagram::bind(&path).unwrap();
        let (writer, guard) = crate::net::logging::beside(Entries::connect(&path).unwrap());
        let subscriber = tracing_subscriber::registry().with(Journald::new(writer));
        tracing::subscriber::with_default(subscriber, job);
        drop(guard); // All is sent.
        let mut buffer = vec![0; 256 * 1024];
        let receive = |_| {
            let length = journal.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let entries = (0..count).map(receive).collect();
        std::fs::remove_file(path).unwrap();
        entries
    }

    #[test]
    fn an_entry_has_its_message_severity_and_fields() {
        let entries = entries_of(1, || tracing::warn!(shard = 3, client_id = "lamp", "it is dark"));
        let entry = &entries[0];
        for field in ["PRIORITY=4", "SYSLOG_IDENTIFIER=willowmq", "MESSAGE=it is dark", "WILLOWMQ_SHARD=3"] {
            assert!(entry.lines().any(|line| line == field), "{field} in {entry}");
        }
        assert!(entry.lines().any(|line| line == "WILLOWMQ_CLIENT_ID=lamp"), "{entry}");
        assert!(entry.contains("CODE_FILE=src/net/logging/journald.rs"), "{entry}");
    }

    #[test]
    fn a_value_of_several_lines_forges_no_field_and_a_long_one_is_cut() {
        let long = "x".repeat(3 * VALUE_BYTES_MAX);
        let entries = entries_of(2, || {
            tracing::error!("one\nPRIORITY=7");
            tracing::info!("{long}");
        });
        let length = "one\nPRIORITY=7".len() as u8 as char;
        assert!(entries[0].contains(&format!("MESSAGE\n{length}\0\0\0\0\0\0\0one\nPRIORITY=7\n")), "{:?}", entries[0]);
        assert!(entries[1].len() < 2 * VALUE_BYTES_MAX);
    }

    #[test]
    fn without_a_journal_there_is_an_error() {
        assert!(Entries::connect("/nowhere/socket").is_err());
    }
}
