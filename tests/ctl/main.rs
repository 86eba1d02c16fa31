//! `willowmq ctl` as a person at a terminal and a program in a pipe see it.

#[path = "../clients/certificates.rs"]
mod certificates;
mod commands;
mod failures;
mod fake;
mod real;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use fake::Fake;

/// The program, with nothing of the environment that it would heed.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq"));
    for name in ["WILLOWMQ_CONFIG", "WILLOWMQ_URL", "WILLOWMQ_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What `willowmq ctl` with these arguments said, and how it ended.
struct Said {
    out: String,
    error: String,
    code: i32,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }
}

/// Runs it against `url`.
fn ctl_at(url: &str, arguments: &[&str]) -> Said {
    program().args(["ctl", "--url", url]).args(arguments).output().unwrap().into()
}

fn ctl(fake: &Fake, arguments: &[&str]) -> Said {
    ctl_at(&format!("http://{}", fake.address), arguments)
}

/// The same, and what it said on standard output; it has to have worked.
fn told(fake: &Fake, arguments: &[&str]) -> String {
    let said = ctl(fake, arguments);
    assert_eq!((said.code, said.error.as_str()), (0, ""), "{arguments:?}: {}", said.out);
    said.out
}

/// Runs it with something on standard input.
fn ctl_with_input(fake: &Fake, arguments: &[&str], input: &[u8]) -> Said {
    let url = format!("http://{}", fake.address);
    let mut command = program();
    command.args(["ctl", "--url", &url]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}
