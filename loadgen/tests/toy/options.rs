//! Options that make no sense are refused at once, by name.

use crate::run::run;

/// Each of `mistakes` ends with exit code 2 and a message that contains the text beside it.
fn all_are_told(mistakes: &[(&str, &str)]) {
    for (arguments, expected) in mistakes {
        let outcome = run(arguments);
        assert_eq!(outcome.code, Some(2), "{arguments}: {outcome:?}");
        assert!(outcome.stderr.contains(expected), "{arguments}: {outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{arguments}: {outcome:?}");
    }
}

#[test]
fn of_every_scenario() {
    all_are_told(&[
        ("", "Usage"),
        ("publish --broker nowhere", "--broker nowhere"),
        ("publish --broker mqtt://nowhere:1883", "expected HOST:PORT, without mqtt://"),
        ("publish --source 192.0.2.1 --publishers 1 --broker 192.0.2.2:1", "the source address is not on this machine"),
        ("publish --keep-alive -1s", "expected a duration"),
        ("publish --connect-rate -1", "expected a number from"),
        ("publish --publishers -1", "expected a whole number from 1"),
        ("storm --clients -1", "expected a whole number from 1"),
        ("publish --keep-alive 1500ms", "--keep-alive"),
        ("publish --keep-alive 20h", "--keep-alive"),
        ("publish --password-file /etc/hostname", "--username"),
        ("publish --username a --password-file /no/such/file", "--password-file /no/such/file"),
        ("publish --source ::1", "--source"),
        ("publish --source 127.0.0.9-127.0.0.1", "--source"),
        ("publish --connect-rate 1e-300", "--connect-rate"),
        ("publish --connect-rate 0", "--connect-rate"),
        ("publish --connect-concurrency 0", "--connect-concurrency"),
        ("publish --patience 0", "--patience"),
        ("publish --patience soon", "--patience"),
        ("publish --mqtt 2", "--mqtt"),
        ("publish --cpu 60000", "--cpu"),
        ("publish --cpu 1023", "--cpu"),
        ("publish --topic-prefix a/+/b", "--topic-prefix"),
        ("publish --topic-prefix #", "--topic-prefix"),
        ("publish --transport quic", "--transport"),
        ("publish --ca /no/such/file", "--ca is of --transport tls and wss"),
        ("publish --insecure --transport ws", "--insecure is of --transport tls and wss"),
        ("publish --resume", "--resume is of --transport tls and wss"),
        ("publish --transport tls --ca /no/such/file", "--ca: /no/such/file"),
        ("publish --transport tls --ca /dev/null", "--ca: /dev/null"),
        ("publish --transport tls --ca /dev/null --insecure", "--insecure"),
        ("publish --transport tls --cert /dev/null", "--key"),
        ("publish --transport tls --insecure --cert /dev/null --key /dev/null", "--cert: /dev/null"),
        ("publish --transport tls --insecure --tls-name -", "--tls-name"),
        ("publish --transport ws --ws-path mqtt", "--ws-path"),
    ]);
}

#[test]
fn the_schema_has_no_options_and_a_reader_may_stop() {
    let help = run("schema --help");
    assert!(help.code == Some(0) && !help.stdout.contains("--broker"), "{help:?}");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_willowmq-loadgen"))
        .arg("schema")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn names_that_the_protocol_has_no_room_for() {
    let [long, too_long] = [65_001, 65_536].map(|bytes| "x".repeat(bytes));
    let file = std::env::temp_dir().join(format!("loadgen-test-{}.password", std::process::id()));
    std::fs::write(&file, &too_long).unwrap();
    all_are_told(&[
        (&format!("publish --client-prefix {long}"), "--client-prefix has 65001 bytes"),
        (&format!("publish --topic-prefix {long}"), "--topic-prefix has 65001 bytes"),
        (&format!("publish --username {too_long}"), "--username has 65536 bytes"),
        (&format!("publish --username a --password-file {}", file.display()), "the password has 65536 bytes"),
    ]);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn of_publish() {
    all_are_told(&[
        ("publish --publishers 0", "--publishers"),
        ("publish --publishers 99999999999999", "--publishers"),
        ("publish --publishers 2 --subscribers 3", "--publishers"),
        ("publish --rate 10 --window 10", "--window"),
        ("publish --rate 1e-300", "--rate"),
        ("publish --rate 1e300", "--rate"),
        ("publish --qos 3", "--qos"),
        ("publish --payload 23", "--payload"),
        ("publish --shape star", "--shape"),
        ("publish --duration 0", "--duration"),
    ]);
}

#[test]
fn of_storm() {
    all_are_told(&[
        ("storm --clients 18446744073709551615", "--clients"),
        ("storm --clients 4000000000", "open files"),
        ("storm --will-delay 1500ms", "--will-delay"),
        ("storm --will-delay 5s --mqtt 3.1.1", "--will-delay"),
        ("storm --session-expiry 5s --mqtt 3.1.1", "--session-expiry"),
        ("storm --will-topic {prefix}/status", "--will-topic"),
        ("storm --will-topic {n}/#", "--will-topic"),
        ("storm --filter a/#/b", "--filter"),
        ("storm --filter {prefix}/+", "--filter"),
        ("storm --filter $share/a/{prefix}/+/status", "a shared subscription is not possible here"),
        ("storm --will-payload 65536", "--will-payload is at most 65535"),
        ("storm --fraction 0", "--fraction 0 of 10000 clients is none"),
        ("storm --clients 10 --fraction 4%", "--fraction 0.04 of 10 clients is none"),
        ("storm --how silent --keep-alive 0", "--keep-alive"),
        ("storm --how quietly", "--how"),
        ("storm --how takeover --will-delay 5s", "--will-delay"),
        ("storm --how takeover --reconnect 50%", "--reconnect"),
        ("storm --how silent --reconnect 50%", "--reconnect"),
        ("storm --reconnect 50% --will-delay 5s --after 5s", "--after"),
        ("storm --reconnect 150%", "--reconnect"),
        ("storm --background 0", "--background"),
    ]);
}

#[test]
fn of_siege() {
    all_are_told(&[
        ("siege --clients 0", "--clients"),
        ("siege --fraction 0", "--fraction 0 of 12000 clients is none"),
        ("siege --clients 4 --fraction 10%", "--fraction 0.1 of 4 clients is none"),
        ("siege --before 0", "--before"),
        ("siege --duration 0", "--duration"),
        ("siege --flood-rate 0", "--flood-rate"),
        ("siege --flood-open 0", "--flood-open"),
        ("siege --flood-open 4000000000", "open files"),
        ("siege --strangers 127.0.1.9-127.0.1.1", "--strangers"),
        ("siege --clients 10 --strangers ::1", "--strangers and the broker's address"),
        ("siege --mix noise=1", "`noise` is none of garbage, half-open"),
        ("siege --mix garbage=0", "at least one"),
        ("siege --background 0", "--background"),
    ]);
}

#[test]
fn of_offline() {
    let state = std::env::temp_dir().join(format!("loadgen-test-{}.state", std::process::id()));
    std::fs::write(&state, "{}").unwrap();
    let collect = format!("offline --phase collect --state {}", state.display());
    all_are_told(&[
        ("offline --qos 0", "--qos is 1 or 2"),
        ("offline --qos 3", "--qos"),
        ("offline --subscribers 0", "--subscribers"),
        ("offline --publishers 0", "--publishers"),
        ("offline --window 0", "--window"),
        ("offline --messages 0", "--messages"),
        ("offline --duration 0", "--duration is more than 0"),
        ("offline --payload 23", "--payload"),
        ("offline --shape fan-in", "--shape"),
        ("offline --phase half", "--phase"),
        ("offline --phase publish", "need a --state"),
        ("offline --phase collect", "need a --state"),
        ("offline --state file", "--state is of --phase publish and --phase collect"),
        ("offline --phase publish --state /no/such/folder/file", "--state /no/such/folder/file: No such file"),
        ("offline --phase collect --state /no/such/file", "--state /no/such/file: No such file"),
        (&collect, "it is not what --phase publish writes"),
        (&format!("{collect} --messages 5"), "--messages is none of --phase collect"),
        (&format!("{collect} --disk /tmp"), "--disk is none of --phase collect"),
        (&format!("{collect} --client-prefix a"), "--client-prefix is none of --phase collect"),
        (&format!("{collect} --topic-prefix a"), "--topic-prefix is none of --phase collect"),
    ]);
    std::fs::remove_file(state).unwrap();
}
