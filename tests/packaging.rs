//! What packaging/ says of the broker is true of it: limits, exit codes, settings and commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;
use willowmq::config::{Config, File, Sources};
use willowmq::net::probe;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn manifest(name: &str) -> Yaml<'static> {
    let text: &'static str = Box::leak(read(&format!("packaging/kubernetes/{name}.yaml")).into_boxed_str());
    let mut documents = Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{name}.yaml: {error}"));
    assert_eq!(documents.len(), 1, "{name}.yaml");
    documents.remove(0)
}

fn text(yaml: &Yaml<'_>) -> String {
    yaml.as_str().unwrap_or_else(|| panic!("this is no text: {yaml:?}")).to_owned()
}

fn items<'a>(yaml: &'a Yaml<'a>) -> &'a [Yaml<'a>] {
    yaml.as_sequence().unwrap_or_else(|| panic!("this is no list: {yaml:?}"))
}

fn load(toml: &str, environment: &[(&str, &str)]) -> Config {
    let file = Some(File { name: "willowmq.toml", text: toml });
    let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Config::load(Sources { file, environment, ..Sources::default() }).unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

/// The command line takes this, whatever would come of it: with --help it only explains what it has understood.
fn assert_understood(arguments: &[String]) {
    assert_eq!(arguments[0], "/usr/bin/willowmq");
    let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq"));
    let output = command.env_clear().args(&arguments[1..]).arg("--help").output().expect("it can be started");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The values of a key in the unit, which may be there more than once.
fn unit(key: &str) -> Vec<String> {
    let unit = read("packaging/willowmq.service");
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned));
    let values: Vec<_> = values.collect();
    assert!(!values.is_empty(), "the unit has no {key}=");
    values
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.strip_suffix('s').and_then(|number| number.parse().ok()).expect("a number of seconds"))
}

#[test]
fn the_unit_gives_what_the_start_checks() {
    let memlock: u64 = unit("LimitMEMLOCK")[0].strip_suffix('M').expect("megabytes").parse().unwrap();
    assert!(memlock << 20 >= probe::MEMLOCK_MIN);
    let nofile = unit("LimitNOFILE")[0].parse().unwrap();
    assert!(probe::connections(&Config::default(), nofile).unwrap() > 900_000);
    assert_eq!(unit("AmbientCapabilities"), unit("CapabilityBoundingSet"));
    assert_eq!(unit("SystemCallFilter")[0], "@system-service", "io_uring is in @aio, which is in this");
    assert!(unit("RestrictAddressFamilies")[0].contains("AF_UNIX"));
    // memory_limit is a share of what /proc/meminfo says.
    assert!(!read("packaging/willowmq.service").contains("\nProcSubset="));
}

#[test]
fn the_unit_waits_for_a_clean_stop() {
    assert!(seconds(&unit("TimeoutStopSec")[0]) > Config::default().shutdown_timeout);
}

/// The exit codes that docs/TROUBLESHOOTING.md has for what only a person can mend.
#[test]
fn the_unit_tries_again_what_may_pass_and_nothing_else() {
    let prevented: BTreeSet<u8> =
        unit("RestartPreventExitStatus")[0].split(' ').map(|code| code.parse().unwrap()).collect();
    let table = read("docs/TROUBLESHOOTING.md");
    let codes = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let code: u8 = cells.next()?.parse().ok()?;
        let again = cells.nth(1)?;
        Some((code, again.trim_end_matches(" |") == "yes"))
    });
    let codes: Vec<_> = codes.collect();
    assert_eq!(codes.iter().map(|(code, _)| *code).collect::<Vec<_>>(), (1..=13).collect::<Vec<u8>>());
    let by_table = codes.iter().filter(|(_, again)| !again).map(|(code, _)| *code).collect();
    assert_eq!(prevented, by_table);
}

#[test]
fn the_command_line_understands_what_packaging_types() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_understood(&words(&unit("ExecStart")[0]));
    let dockerfile = read("packaging/Dockerfile");
    let health = dockerfile.lines().find_map(|line| line.split_once("CMD [")).expect("a HEALTHCHECK").1;
    let health: Vec<_> =
        health.trim_end_matches(']').split(", ").map(|word| word.trim_matches('"').to_owned()).collect();
    assert_understood(&health);
    let pod = &manifest("statefulset")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let commands =
        ["startupProbe", "readinessProbe", "livenessProbe"].map(|probe| &container[probe]["exec"]["command"]);
    for command in commands.into_iter().chain([&container["lifecycle"]["preStop"]["exec"]["command"]]) {
        assert_understood(&items(command).iter().map(text).collect::<Vec<_>>());
    }
}

#[test]
fn what_the_package_holds_is_there() {
    let cargo: toml::Value = toml::from_str(&read("Cargo.toml")).unwrap();
    let deb = &cargo["package"]["metadata"]["deb"];
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        // What the build makes: the program, and what the program makes itself.
        if source.starts_with("packaging/stage/") {
            continue;
        }
        let path = root().join(source);
        let pattern = PathBuf::from(path.file_name().unwrap());
        let matches = |name: &Path| match pattern.to_str().unwrap().strip_prefix('*') {
            Some(end) => name.to_str().is_some_and(|name| name.ends_with(end)),
            None => name == pattern,
        };
        let folder = path.parent().unwrap().read_dir().unwrap_or_else(|error| panic!("{source}: {error}"));
        assert!(folder.flatten().any(|entry| matches(Path::new(&entry.file_name()))), "{source} is not there");
    }
    assert!(root().join(deb["maintainer-scripts"].as_str().unwrap()).join("postinst").exists());
    assert!(root().join(deb["license-file"][0].as_str().unwrap()).exists());
    assert!(root().join("packaging/willowmq.service").exists());
}

#[test]
fn the_sample_has_every_setting_and_changes_none_but_what_it_was_told() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq"));
    let output = command.env_clear().args(["config", "--sample", "--data-dir", "/var/lib/willowmq"]).output().unwrap();
    let sample = String::from_utf8(output.stdout).unwrap();
    let packaged = load(&sample, &[]);
    assert_eq!(packaged, Config { data_dir: "/var/lib/willowmq".into(), ..Config::default() });
    // Whoever opens it to the world has to say that the world may come in.
    let opened = sample.replace("# address = \"127.0.0.1:1883\"", "address = \"0.0.0.0:1883\"");
    let file = Some(File { name: "f", text: &opened });
    let error = Config::load(Sources { file, ..Sources::default() }).unwrap_err().to_string();
    assert!(error.contains("nobody could connect here"), "{error}");
}

#[test]
fn the_seccomp_profile_allows_rings_and_names_nothing_twice() {
    let profile: Value = serde_json::from_str(&read("packaging/seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let groups = profile["syscalls"].as_array().unwrap();
    assert!(groups.iter().all(|group| group["action"] == "SCMP_ACT_ALLOW"));
    let names: Vec<_> = groups.iter().flat_map(|group| group["names"].as_array().unwrap()).collect();
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register", "fdatasync", "sched_setscheduler"] {
        assert!(names.iter().any(|known| *known == name), "{name}");
    }
    for (index, name) in names.iter().enumerate() {
        assert!(!names[..index].contains(name), "{name} is there twice");
    }
    for dangerous in ["mount", "ptrace", "bpf", "init_module", "kexec_load", "setns", "unshare", "pivot_root", "keyctl"]
    {
        assert!(!names.iter().any(|known| *known == dangerous), "{dangerous}");
    }
}

#[test]
fn the_container_starts_once_it_is_said_who_may_come_in() {
    let dockerfile = read("packaging/Dockerfile");
    let line = dockerfile.lines().find_map(|line| line.strip_prefix("ENV ")).expect("an ENV");
    let mut environment: Vec<_> = line.split(' ').map(|pair| pair.split_once('=').expect("a pair")).collect();
    environment.push(("WILLOWMQ_LISTENERS_0_ANONYMOUS", "true"));
    let config = load(&Config::default().to_sample(), &environment);
    assert_eq!(config.listeners[0].address.to_string(), "0.0.0.0:1883");
    assert!(dockerfile.contains("\nUSER 1883:1883\n") && dockerfile.contains("\nVOLUME /var/lib/willowmq\n"));
}

#[test]
fn the_manifests_fit_each_other_and_the_configuration() {
    let set = manifest("statefulset");
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let config = load(&text(&manifest("configmap")["data"]["willowmq.toml"]), &[]);

    let port = &container["ports"][0];
    assert_eq!(port["containerPort"].as_integer(), Some(i64::from(config.listeners[0].address.port())));
    let service = manifest("service");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
    for selector in [&service["spec"]["selector"], &manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"]]
    {
        assert_eq!(*selector, set["spec"]["template"]["metadata"]["labels"]);
    }
    assert_eq!(set["spec"]["serviceName"], service["metadata"]["name"]);

    let mounted = |path: &str| {
        let mount = items(&container["volumeMounts"]).iter().find(|mount| mount["mountPath"].as_str() == Some(path));
        text(&mount.unwrap_or_else(|| panic!("nothing is mounted at {path}"))["name"])
    };
    assert_eq!(
        mounted(config.data_dir.to_str().unwrap()),
        text(&set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"])
    );
    let passwords = config.authenticators[0].file.as_deref().unwrap();
    mounted(passwords.parent().unwrap().to_str().unwrap());
    let file = container["env"][0]["value"].as_str().unwrap();
    mounted(Path::new(file).parent().unwrap().to_str().unwrap());

    assert!(config.admin.address.is_none_or(|address| address.ip().is_loopback()), "the probes ask there");
    let drain = items(&container["lifecycle"]["preStop"]["exec"]["command"]);
    let over =
        drain.iter().filter_map(Yaml::as_str).find(|word| word.ends_with('s') && word.starts_with(char::is_numeric));
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_integer().unwrap() as u64);
    assert!(grace > seconds(over.unwrap()) + config.shutdown_timeout);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(text(&pod["securityContext"]["seccompProfile"]["type"]), "Localhost");
}
