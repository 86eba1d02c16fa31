//! Cases that the documentation of the module promises.

use super::*;

fn rights(text: &str) -> Rights {
    Rights::parse(text, "rights.toml").unwrap()
}

#[test]
fn an_empty_file_allows_nothing() {
    let rights = rights("");
    let identity = Identity::of_user("alice");
    let who = Who { identity: &identity, client_id: "c" };
    assert!(!rights.may(who, Action::Publish, TopicName::parse("a").unwrap()));
}
