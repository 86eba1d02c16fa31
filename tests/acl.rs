//! `willowmq acl` as a person at a terminal sees it.

use std::path::{Path, PathBuf};
use std::process::Command;

const RIGHTS: &str = "[[rules]]\neffect = 'allow'\nusers = ['cam-*']\nactions = ['write']\ntopics = ['cams/%u/#']\n\n\
                      [[rules]]\neffect = 'allow'\nfields = { 'cert.cn' = 'hub' }\nactions = ['read']\ntopics = ['cams/#']\n\n\
                      [[rules]]\neffect = 'deny'\nactions = ['all']\ntopics = ['cams/+/secret/#']\n";

/// A folder for one test, which removes it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("willowmq-acl-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The exit code, and what was said.
fn acl(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_willowmq"))
        .arg("acl")
        .args(arguments)
        .current_dir(folder)
        .env_remove("WILLOWMQ_CONFIG")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn explain_names_the_rule_that_decides_and_exits_as_it_says() {
    let folder = Folder::new("explain");
    folder.file("rights.toml", RIGHTS);
    let explain = |rest: &[&str]| {
        let arguments = [&["explain", "--file", "rights.toml", "--client", "c"], rest].concat();
        acl(&folder.0, &arguments)
    };
    let (code, said) = explain(&["--user", "cam-7", "publish", "cams/cam-7/state"]);
    assert_eq!(code, 0, "{said}");
    let first = "publish \"cams/cam-7/state\": allowed by rights.toml:5, topic pattern \"cams/%u/#\", which is \"cams/cam-7/#\" here\n";
    assert!(said.starts_with(first) && said.contains("     3  users = ['cam-*']\n"), "{said}");

    let (code, said) = explain(&["--user", "cam-7", "will", "cams/cam-7/secret/x"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("will \"cams/cam-7/secret/x\": denied by rights.toml:16, "), "{said}");

    let (code, said) = explain(&["publish", "cams/cam-7/state"]);
    assert_eq!(
        (code, said.trim()),
        (1, "publish \"cams/cam-7/state\": denied by default: no rule in rights.toml allows it")
    );

    let (code, said) = explain(&["--field", "cert.cn=hub", "subscribe", "$share/g/cams/#"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Not all that it matches may be received"), "{said}");
    assert_eq!(explain(&["--field", "cert.cn=hub", "receive", "cams/cam-7/secret/x"]).0, 1);
    assert_eq!(explain(&["--field", "cert.cn=hub", "receive", "cams/cam-7/state"]).0, 0);
}

#[test]
fn what_is_wrong_with_the_question_or_the_file_exits_with_2() {
    let folder = Folder::new("wrong");
    folder.file("rights.toml", RIGHTS);
    folder.file("wrong.toml", "[[rules]]\nefect = 'deny'\n");
    for (arguments, message) in [
        (&["explain", "--file", "rights.toml", "--client", "c", "publish", "a/+"][..], "\"a/+\" is no Topic Name"),
        (&["explain", "--file", "rights.toml", "--client", "c", "subscribe", "a/#/b"], "\"a/#/b\" is no Topic Filter"),
        (&["explain", "--file", "rights.toml", "--client", "c", "--field", "x", "publish", "a"], "NAME=VALUE"),
        (&["explain", "--file", "missing", "--client", "c", "publish", "a"], "cannot read missing"),
        (&["check", "--file", "wrong.toml"], "wrong.toml:2: there is no key efect; did you mean effect?"),
        (&["check", "--file", "rights.toml", "--format", "mosquitto"], "rights.toml:1: a line begins with"),
        (&["check"], "there is no rights file"),
    ] {
        let (code, said) = acl(&folder.0, arguments);
        assert!(code == 2 && said.contains(message), "{arguments:?} exits with {code}: {said}");
    }
}

#[test]
fn the_file_of_the_configuration_is_read_as_it_says() {
    let folder = Folder::new("config");
    folder.file("acl", "user alice\ntopic read news/#\n");
    folder.file("willowmq.toml", "[security]\nrights_file = 'acl'\nrights_format = 'mosquitto'\n");
    let (code, said) = acl(&folder.0, &["check", "--config", "willowmq.toml"]);
    assert_eq!((code, said.trim()), (0, "acl: 1 rule"));
    let question =
        ["explain", "--config", "willowmq.toml", "--user", "alice", "--client", "c", "receive", "news/today"];
    let (code, said) = acl(&folder.0, &question);
    assert!(code == 0 && said.contains("allowed by acl:2") && said.contains("     2  topic read news/#"), "{said}");
}

#[test]
fn without_a_rights_file_all_is_allowed_but_publishing_below_dollar() {
    let folder = Folder::new("none");
    let (code, said) = acl(&folder.0, &["explain", "--client", "c", "publish", "a"]);
    assert!(code == 0 && said.contains("without a rights file"), "{said}");
    assert_eq!(acl(&folder.0, &["explain", "--client", "c", "publish", "$SYS/a"]).0, 1);
}
