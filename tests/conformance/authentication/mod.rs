//! Who a client is: password files, tokens, enhanced authentication, and a service that is asked.

mod enhanced;
mod passwords;
mod service;
mod tokens;

use crate::harness::broker::{folder, program};
use crate::harness::{Broker, Client, Connect, PATIENCE, unique};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Nobody waits or is banned for wrong credentials, and files are looked at all the time.
const SECURITY: &str = "[security]\nfailure_delay = \"0s\"\nfailures_max = 0\nreload_interval = \"10ms\"\n";
/// Where the authenticators are asked, and where nobody is.
const LISTENERS: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n\
     [[listeners]]\naddress = \"127.0.0.1:0\"\nauthenticators = []\n";

/// A broker whose only authenticator is the one that these settings are of.
fn start(folder: PathBuf, authenticator: &str) -> Broker {
    start_with(folder, authenticator, "")
}

/// The same, with these settings besides: more keys of `[security]`, then other tables.
fn start_with(folder: PathBuf, authenticator: &str, settings: &str) -> Broker {
    let authenticator = format!("[[authenticators]]\nname = \"first\"\n{authenticator}\n");
    Broker::start_in(folder, 2, &format!("{SECURITY}{settings}\n{LISTENERS}{authenticator}"))
}

/// A broker with a password file, and the file.
fn with_passwords(content: &str, settings: &str) -> (Broker, PathBuf) {
    let folder = folder();
    let file = folder.join("passwords");
    fs::write(&file, content).unwrap();
    (start_with(folder, &format!("kind = \"password\"\nfile = {file:?}"), settings), file)
}

/// A broker that knows anna, by password and by SCRAM.
fn with_anna() -> (Broker, PathBuf) {
    with_anna_and("")
}

/// The same, with settings besides, as [`start_with`] has them.
fn with_anna_and(settings: &str) -> (Broker, PathBuf) {
    let (broker, file) = with_passwords("# people\n", settings);
    assert_eq!(passwd(&["add", "anna", "--scram", "--memory", "64", "--passes", "1"], &file, "pencil"), 0);
    broker.await_log("reloaded what=\"authenticators\"", PATIENCE);
    (broker, file)
}

/// Runs `willowmq passwd` with a password on its standard input; its exit code.
fn passwd(arguments: &[&str], file: &Path, password: &str) -> i32 {
    let mut command = program();
    command.arg("passwd").args(arguments).arg("--file").arg(file);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program can be started");
    // It may end without reading, where it needs no password.
    let _ = child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes());
    child.wait().unwrap().code().unwrap()
}

fn user(version: u8, username: &str, password: &str) -> Connect {
    Connect::new(version, &unique("user")).username(username.as_bytes()).password(password.as_bytes())
}

fn refusal(broker: &Broker, connect: Connect) -> u8 {
    broker.refuse(connect).reason
}

/// A client where nobody is asked who it is.
fn guest(broker: &Broker) -> Client {
    let mut guest = Client::open(broker.addresses[1], 5);
    assert_eq!(guest.try_connect(&Connect::v5(&unique("guest"))), Some(0));
    guest
}
