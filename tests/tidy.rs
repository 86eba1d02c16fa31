//! Checks of the code itself: the layers of docs/ARCHITECTURE.md, and how much of the standard the tests name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("a readable folder").path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lines of code that hold one of `words`; comments may speak of anything.
fn lines_with(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in rust_files(&root().join("src").join(folder)) {
        for (line, number) in read(&path).lines().zip(1..) {
            let code = line.trim_start();
            if !code.starts_with("//") && words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{number}: {code}", path.display()));
            }
        }
    }
    found
}

#[test]
fn pure_folders_name_no_clock_socket_thread_or_lock() {
    let words = [
        "glommio",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "Mutex<",
        "RefCell<",
        "async fn",
        "TcpStream",
        "std::fs",
    ];
    for folder in ["codec", "topic", "timer", "session", "security", "shard", "config"] {
        assert_eq!(lines_with(folder, &words), [""; 0]);
    }
    // The journal knows files where it is a directory, and where that is repaired.
    let knows_files = |line: &String| line.contains("journal/directory.rs") || line.contains("journal/tool/");
    let of_journal: Vec<_> = lines_with("journal", &words).into_iter().filter(|line| !knows_files(line)).collect();
    assert_eq!(of_journal, [""; 0]);
}

#[test]
fn dependencies_point_one_way() {
    let above = ["crate::session", "crate::shard", "crate::net", "crate::config", "crate::security"];
    for folder in ["codec", "topic", "timer"] {
        assert_eq!(lines_with(folder, &above), [""; 0]);
    }
    assert_eq!(lines_with("session", &["crate::shard", "crate::net", "crate::config", "crate::journal"]), [""; 0]);
    assert_eq!(lines_with("journal", &["crate::shard", "crate::net", "crate::config"]), [""; 0]);
    assert_eq!(lines_with("shard", &["crate::net"]), [""; 0]);
}

/// The number of a statement in a test's name: `mqtt_3_1_2_24_…` or `v311_mqtt_3_1_2_24_…`.
fn statement(name: &str) -> Option<String> {
    let (version, rest) = match name.strip_prefix("v311_mqtt_") {
        Some(rest) => ("3.1.1 ", rest),
        None => ("5.0 ", name.strip_prefix("mqtt_")?),
    };
    let numbers: Vec<_> = rest.split('_').take_while(|part| part.bytes().all(|byte| byte.is_ascii_digit())).collect();
    (numbers.len() >= 3).then(|| format!("{version}{}", numbers.join(".")))
}

#[test]
fn tests_at_the_socket_name_at_least_150_statements() {
    let mut statements = BTreeSet::new();
    for path in rust_files(&root().join("tests/conformance")) {
        let text = read(&path);
        let names = text.lines().filter_map(|line| line.strip_prefix("fn ")?.split('(').next());
        statements.extend(names.filter_map(statement));
    }
    assert!(statements.len() >= 150, "{} statements", statements.len());
}

/// What stands in backticks in a cell.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn counters_in_the_tables_of_limits_are_those_that_are_told() {
    let guide = read(&root().join("docs/SECURITY.md"));
    let limits = guide.split("\n## ").find(|section| section.starts_with("Limits\n")).expect("it has this section");
    let told = read(&root().join("src/net/totals.rs"));
    let mut counter_column = None;
    let mut found = BTreeSet::new();
    for line in limits.lines() {
        let cells: Vec<_> = line.split(" | ").collect();
        if line.starts_with("| ") && counter_column.is_none() {
            counter_column = cells.iter().position(|cell| *cell == "counter");
        } else if !line.starts_with('|') {
            counter_column = None;
        }
        let counters = counter_column.and_then(|column| cells.get(column)).into_iter().flat_map(|cell| quoted(cell));
        found.extend(counters);
    }
    assert!(found.len() > 30, "the tables were read: {found:?}");
    let untold: Vec<_> = found.into_iter().filter(|counter| !told.contains(&format!(" {counter} = "))).collect();
    assert_eq!(untold, [""; 0]);
}

fn markdown_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries.map(|entry| entry.expect("a readable folder").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The lines of a page that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a page, as GitHub makes them from its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let titles = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    titles.map(|title| title.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// What the links of a page lead to, within the repository.
fn links(text: &str) -> Vec<&str> {
    let targets = prose(text).flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    targets.filter(|target| !target.contains("://") && !target.starts_with("crate::")).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in [root().to_owned(), root().join("docs")].iter().flat_map(|folder| markdown_files(folder)) {
        let text = read(&page);
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let is_there = target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !is_there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}
