//! The broker as a process, with a listener of each kind on ports that the system chose.

use crate::certificates;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

/// How a client reaches the broker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Tcp,
    /// With a certificate of the client's own.
    Tls,
    Ws,
    Wss,
}

pub(crate) struct Broker {
    child: Child,
    /// In the order of [`Transport`].
    ports: Vec<u16>,
    folder: PathBuf,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::with_origins(&[])
    }

    /// A broker to which pages from `origins` may connect.
    pub(crate) fn with_origins(origins: &[String]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("clients-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let configuration = folder.join("willowmq.toml");
        let data = folder.join("data");
        let mut text = format!("shards = 2\ndata_dir = {data:?}\n");
        for kind in ["tcp", "tls", "ws", "wss"] {
            text += &format!("[[listeners]]\nkind = {kind:?}\naddress = \"127.0.0.1:0\"\nanonymous = true\n");
            if kind.contains("ws") {
                text += &format!("websocket_origins = {origins:?}\n");
            }
            let files = certificates::folder();
            let [server, key, authority] = ["server.pem", "server.key", "ca.pem"].map(|name| files.join(name));
            if kind == "tls" || kind == "wss" {
                text += &format!("certificates = [{server:?}]\nkeys = [{key:?}]\n");
            }
            if kind == "tls" {
                // Pages cannot choose a certificate for a WebSocket, so they are not asked for one.
                text += &format!("client_certificates = \"required\"\nclient_authorities = {authority:?}\n");
            }
        }
        fs::write(&configuration, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq"))
            .arg("--config")
            .arg(configuration)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker can be started");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let addresses = lines.by_ref().filter_map(|line| Some(line.split_once("address=")?.1.to_owned()));
        let port = |address: String| {
            address.split([' ', ',', '"']).find_map(|word| word.rsplit_once(':')).unwrap().1.parse().unwrap()
        };
        let ports: Vec<u16> = addresses.take(4).map(port).collect();
        assert_eq!(ports.len(), 4, "the broker tells its addresses before it ends");
        thread::spawn(move || lines.for_each(drop)); // Nobody else empties the pipe.
        Self { child, ports, folder }
    }

    pub(crate) fn port(&self, transport: Transport) -> u16 {
        self.ports[transport as usize]
    }

    pub(crate) fn url(&self, transport: Transport) -> String {
        let port = self.port(transport);
        match transport {
            Transport::Tcp => format!("mqtt://127.0.0.1:{port}"),
            Transport::Tls => format!("mqtts://127.0.0.1:{port}"),
            Transport::Ws => format!("ws://127.0.0.1:{port}/mqtt"),
            Transport::Wss => format!("wss://127.0.0.1:{port}/mqtt"),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
