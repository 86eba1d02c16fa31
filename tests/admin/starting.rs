//! Where the HTTP server listens, and what keeps it from that.

use std::fs;
use std::net::TcpListener;

use crate::harness::broker::{folder, run};
use crate::harness::{Broker, PATIENCE};

const MEMORY: &str = "durability = \"memory\"\nshards = 1\n";
const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

#[test]
fn an_address_that_was_asked_for_and_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = format!("{MEMORY}[admin]\naddress = {address:?}\n{LISTENER}");
    let output = run(&text, &[], &[("WILLOWMQ_ADMIN_ENABLED", "true")]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("cannot serve HTTP at admin.address {address}")), "{said}");
}

#[test]
fn the_default_address_may_be_taken_and_then_there_is_no_http() {
    // Where another test, or somebody else on this machine, has the port already, that is as good.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let broker = Broker::start_by(folder(), 2, "", |configuration| {
        let mut command = crate::harness::broker::program();
        command.env_remove("WILLOWMQ_ADMIN_ENABLED").arg("--config").arg(configuration);
        command
    });
    broker.await_log("there is no HTTP API: the address is taken", PATIENCE);
    broker.client(5).ping();
}

#[test]
fn what_is_wrong_with_its_settings_is_told_before_anything_begins() {
    let folder = folder();
    let file = folder.join("tokens");
    fs::write(&file, "ops write short\n").unwrap();
    let with = |admin: &str| format!("{MEMORY}[admin]\n{admin}\n{LISTENER}");
    for (text, expected) in [
        (with("address = \"0.0.0.0:0\""), "admin.token_file is not set: admin.address is no loopback address"),
        (with(&format!("token_file = {file:?}")), "tokens:1: the token of ops is shorter than 16 characters"),
        (with("token_file = \"/nowhere/tokens\""), "cannot read /nowhere/tokens"),
        (with("certificate = \"/nowhere/c.pem\"\nkey = \"/nowhere/k.pem\""), "/nowhere/c.pem"),
    ] {
        for arguments in [&[][..], &["--check-config"]] {
            let output = run(&text, arguments, &[("WILLOWMQ_ADMIN_ENABLED", "true")]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}
