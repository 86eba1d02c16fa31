//! The command line, the configuration file and the environment.

use crate::harness::Broker;
use crate::harness::broker::{program, run};
use std::net::TcpListener;
use std::process::Output;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program refused to go on, said why, and did not panic.
fn assert_refused(output: &Output, words: &[&str]) {
    assert!(output.status.code().is_some_and(|code| code != 0 && code != 101), "{output:?}");
    for word in words {
        assert!(stderr(output).contains(word), "{word:?} is missing in: {}", stderr(output));
    }
}

fn check(text: &str) -> Output {
    run(text, &["--check-config"], &[])
}

#[test]
fn empty_configuration_is_valid() {
    let output = check("");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn unknown_key_is_an_error_that_suggests_the_nearest_name() {
    assert_refused(
        &check("[limits]\npacket_bytes_maximum = \"1MiB\"\n"),
        &["packet_bytes_maximum", "packet_bytes_max"],
    );
    assert_refused(&check("shard = 2\n"), &["shard", "shards"]);
}

#[test]
fn unknown_section_is_an_error() {
    assert_refused(&check("[limit]\nreceive_maximum = 3\n"), &["limit"]);
}

#[test]
fn value_out_of_range_is_told_with_key_value_and_range() {
    assert_refused(&check("[limits]\nmaximum_qos = 3\n"), &["maximum_qos", "3", "2"]);
    assert_refused(&check("shards = 0\n"), &["shards", "0"]);
    assert_refused(&check("shards = 129\n"), &["shards", "129", "128"]);
}

#[test]
fn value_of_the_wrong_type_is_told_with_its_key() {
    assert_refused(&check("[limits]\nreceive_maximum = \"many\"\n"), &["receive_maximum"]);
    assert_refused(&check("[features]\nretain = 1\n"), &["retain"]);
}

#[test]
fn duration_or_size_without_a_meaning_is_told_with_its_key() {
    assert_refused(&check("[limits]\nconnect_timeout = \"soon\"\n"), &["connect_timeout", "soon"]);
    assert_refused(&check("[limits]\npacket_bytes_max = \"huge\"\n"), &["packet_bytes_max", "huge"]);
}

#[test]
fn broken_toml_is_told_with_file_and_line() {
    assert_refused(&check("shards = 2\n[limits\n"), &["willowmq.toml", "2"]);
}

#[test]
fn missing_file_is_told_with_its_name() {
    let output = program().args(["--config", "/nonexistent/broker.toml"]).output().unwrap();
    assert_refused(&output, &["/nonexistent/broker.toml"]);
}

#[test]
fn what_this_version_cannot_do_is_refused_at_the_start() {
    assert_refused(&check("durability = \"forever\"\n"), &["durability", "forever", "sync", "relaxed", "memory"]);
    assert_refused(&check("[[listeners]]\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\n"), &["tls"]);
}

#[test]
fn listener_beyond_loopback_must_say_that_it_is_anonymous() {
    assert_refused(&check("[[listeners]]\naddress = \"0.0.0.0:18830\"\n"), &["anonymous"]);
    assert!(check("[[listeners]]\naddress = \"0.0.0.0:18830\"\nanonymous = true\n").status.success());
}

#[test]
fn will_topics_to_allow_must_be_topic_filters() {
    assert_refused(&check("[wills.allow]\ntopics = [\"a/#/b\"]\n"), &["topics", "a/#/b"]);
}

#[test]
fn printed_configuration_is_a_configuration_and_says_the_same_again() {
    let first = run("shards = 3\n[limits]\nreceive_maximum = 77\n", &["--print-config"], &[]);
    assert!(first.status.success(), "{first:?}");
    let table: toml::Table = stdout(&first).parse().expect("TOML");
    assert_eq!(table["shards"].as_integer(), Some(3));
    assert_eq!(table["limits"]["receive_maximum"].as_integer(), Some(77));
    let second = run(&stdout(&first), &["--print-config"], &[]);
    assert_eq!(stdout(&second), stdout(&first));
}

#[test]
fn printed_configuration_names_every_section() {
    let output = run("", &["--print-config"], &[]);
    let table: toml::Table = stdout(&output).parse().expect("TOML");
    for section in ["log", "journal", "listeners", "wills", "sessions", "limits", "features"] {
        assert!(table.contains_key(section), "{section} is missing");
    }
}

#[test]
fn environment_overrides_the_file() {
    let environment = [("WILLOWMQ_SHARDS", "5"), ("WILLOWMQ_LIMITS_PACKET_BYTES_MAX", "2MiB")];
    let output = run("shards = 3\n", &["--print-config"], &environment);
    let table: toml::Table = stdout(&output).parse().expect("TOML");
    assert_eq!(table["shards"].as_integer(), Some(5));
    assert_eq!(table["limits"]["packet_bytes_max"].as_str(), Some("2MiB"));
}

#[test]
fn wrong_value_in_the_environment_is_told_with_the_variable() {
    let output = run("", &["--check-config"], &[("WILLOWMQ_LIMITS_MAXIMUM_QOS", "9")]);
    assert_refused(&output, &["WILLOWMQ_LIMITS_MAXIMUM_QOS", "9"]);
}

#[test]
fn unknown_variable_with_our_prefix_is_an_error() {
    let output = run("", &["--check-config"], &[("WILLOWMQ_LIMITS_MAXIMUM_QO", "1")]);
    assert_refused(&output, &["WILLOWMQ_LIMITS_MAXIMUM_QO"]);
}

#[test]
fn environment_sets_the_address_of_a_listener() {
    let output = run("", &["--print-config"], &[("WILLOWMQ_LISTENERS_0_ADDRESS", "127.0.0.1:18831")]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("127.0.0.1:18831"), "{output:?}");
}

#[test]
fn listen_stands_for_listeners_instead_of_those_of_the_file() {
    let arguments = ["--print-config", "--listen", "127.0.0.1:18832", "--listen", "[::1]:18833"];
    let output = run("[[listeners]]\naddress = \"127.0.0.1:18831\"\n", &arguments, &[]);
    assert!(output.status.success(), "{output:?}");
    let table: toml::Table = stdout(&output).parse().expect("TOML");
    let addresses: Vec<_> = table["listeners"].as_array().unwrap().iter().map(|of| of["address"].as_str()).collect();
    assert_eq!(addresses, [Some("127.0.0.1:18832"), Some("[::1]:18833")]);
    assert_refused(&run("", &["--listen", "0.0.0.0:18832"], &[]), &["command line", "0.0.0.0:18832", "anonymous"]);
}

#[test]
fn unknown_argument_is_refused() {
    assert_refused(&program().arg("--frobnicate").output().unwrap(), &["--frobnicate"]);
}

#[test]
fn help_and_version_are_told_on_standard_output() {
    use std::process::Stdio;
    for (argument, word) in [("--help", "--check-config"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = program().arg(argument).stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success() && stdout(&output).contains(word), "{output:?}");
    }
}

#[test]
fn port_in_use_stops_the_start_with_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&format!("shards = 2\n[[listeners]]\naddress = \"{address}\"\n"), &[], &[]);
    assert_refused(&output, &[&address]);
}

#[test]
fn second_broker_on_the_same_port_does_not_start() {
    let broker = Broker::start("");
    let address = broker.address.to_string();
    let output = run(&format!("shards = 2\n[[listeners]]\naddress = \"{address}\"\n"), &[], &[]);
    assert_refused(&output, &[&address]);
    broker.client(5).ping();
}

#[test]
fn broker_serves_on_one_shard_as_on_several() {
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards, "");
        let (mut watcher, mut publisher) = (broker.client(5), broker.client(4));
        watcher.subscribe("a/+", 1);
        publisher.publish(crate::harness::Publish::new("a/b", "x").qos(1));
        assert_eq!(watcher.message().text(), "x");
    }
}

#[test]
fn log_tells_the_address_that_was_chosen() {
    let broker = Broker::start("");
    let log = broker.log();
    assert!(log.contains("listening") && log.contains(&format!("address={}", broker.address)), "{log}");
}

#[test]
fn exit_code_tells_a_wrong_configuration_from_a_taken_port() {
    let wrong = check("shards = 0\n").status.code();
    assert_eq!(wrong, Some(2)); // As for a wrong argument.
    assert_eq!(program().arg("--frobnicate").output().unwrap().status.code(), Some(2));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("shards = 1\n[[listeners]]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    let in_use = run(&text, &[], &[]).status.code();
    assert!(in_use.is_some() && in_use != Some(0) && in_use != wrong, "{in_use:?}");
}

#[test]
fn check_config_refuses_a_log_level_that_the_start_would_refuse() {
    assert_refused(&check("[log]\nlevel = \"[[[\"\n"), &["log.level"]);
}

#[test]
fn check_config_refuses_a_log_level_that_would_silence_the_log() {
    assert_refused(&check("[log]\nlevel = \"inof\"\n"), &["log.level", "inof", "info"]);
    assert_refused(&run("", &["--check-config", "--log-level", "warning"], &[]), &["log.level", "warn"]);
}

#[test]
fn check_config_refuses_places_of_unix_sockets_that_the_start_would_refuse() {
    let listener = |path: &str, more: &str| {
        check(&format!("[[listeners]]\nkind = \"unix\"\nanonymous = true\npath = \"{path}\"\n{more}\n"))
    };
    let folder = std::env::temp_dir();
    let path = folder.join("willowmq-check.sock");
    assert_refused(&listener(&path.display().to_string(), "owner = \"nobody-of-this-name\""), &["nobody-of-this-name"]);
    let long = folder.join("x".repeat(120));
    assert_refused(&listener(&long.display().to_string(), ""), &["cannot listen on", "SUN_LEN"]);
    let missing = folder.join("willowmq-no-such-folder");
    let in_missing = missing.join("mqtt.sock");
    assert_refused(
        &listener(&in_missing.display().to_string(), ""),
        &["there is no folder", &missing.display().to_string()],
    );
    assert_refused(&listener("/etc/passwd", ""), &["something else than a socket"]);
    assert!(listener(&path.display().to_string(), "").status.success());
    assert!(!path.exists(), "it only looks");
}

#[test]
fn check_config_refuses_a_memory_limit_that_so_many_shards_cannot_begin_with() {
    let output = check("shards = 64\nmemory_limit = \"80MiB\"\n");
    assert_eq!(output.status.code(), Some(13), "{output:?}");
    assert_refused(&output, &["memory_limit"]);
}
