//! The broker as a process, on a port that the system chose.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl Broker {
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("clients-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let configuration = folder.join("willowmq.toml");
        let data = folder.join("data");
        let text = format!("shards = 2\ndata_dir = {data:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n");
        fs::write(&configuration, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq"))
            .arg("--config")
            .arg(configuration)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker can be started");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("address=")?.1.to_owned()));
        let address = address.expect("the broker tells its address before it ends");
        let port = address.split([' ', ',', '"']).find_map(|word| word.rsplit_once(':')).unwrap().1.parse().unwrap();
        thread::spawn(move || lines.for_each(drop)); // Nobody else empties the pipe.
        Self { child, port, folder }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
