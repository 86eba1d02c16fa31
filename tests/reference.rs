//! `docs/CONFIGURATION.md` has every setting as the code has it.

use willowmq::config;

const BEGIN: &str = "<!-- The reference begins here; it is generated. -->";
const END: &str = "<!-- The reference ends here. -->";

/// What `willowmq config --reference` prints, without the title that the page has itself.
fn reference() -> String {
    let printed = config::reference();
    let (_, tables) = printed.split_once('\n').expect("it begins with a title");
    format!("\n{tables}\n")
}

/// `WRITE_REFERENCE=1 cargo test --test reference` writes it anew.
#[test]
fn the_settings_in_the_guide_are_those_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIGURATION.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (before, rest) = guide.split_once(BEGIN).expect("it has a place for the reference");
    let (written, after) = rest.split_once(END).expect("the reference has an end");
    let expected = reference();
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(written == expected, "docs/CONFIGURATION.md is out of date: WRITE_REFERENCE=1 cargo test --test reference");
}
