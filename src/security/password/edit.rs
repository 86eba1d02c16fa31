//! A password file with one user changed, and every other line as it was.

use super::split;

/// The text with `credentials`, and no others, for `username`: where its first line was, or at the end.
pub fn with_user(text: &str, username: &str, credentials: &[String]) -> String {
    let mut credentials = Some(credentials.iter().map(|credential| format!("{username}:{credential}")));
    let mut lines = Vec::new();
    for line in text.lines() {
        if !is_of(line, username) {
            lines.push(line.to_owned());
        } else if let Some(new) = credentials.take() {
            lines.extend(new);
        }
    }
    lines.extend(credentials.into_iter().flatten());
    finish(lines)
}

/// The text without the lines of `username`; `None` where there are none.
pub fn without_user(text: &str, username: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().filter(|line| !is_of(line, username)).map(str::to_owned).collect();
    (lines.len() < text.lines().count()).then(|| finish(lines))
}

fn is_of(line: &str, username: &str) -> bool {
    matches!(split(line), Ok(Some((of_line, _))) if of_line == username)
}

fn finish(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# people\nanna:a\n\nlamp:old\nlamp:older\nbert:b";

    #[test]
    fn a_user_is_changed_in_place_with_all_its_lines() {
        let changed = with_user(TEXT, "lamp", &["new".into(), "newer".into()]);
        assert_eq!(changed, "# people\nanna:a\n\nlamp:new\nlamp:newer\nbert:b\n");
    }

    #[test]
    fn a_new_user_comes_last() {
        assert_eq!(with_user(TEXT, "carl", &["c".into()]), format!("{TEXT}\ncarl:c\n"));
        assert_eq!(with_user("", "carl", &["c".into()]), "carl:c\n");
    }

    #[test]
    fn a_user_is_removed_and_others_stay() {
        assert_eq!(without_user(TEXT, "lamp").unwrap(), "# people\nanna:a\n\nbert:b\n");
        assert_eq!(without_user(TEXT, "lam"), None);
        assert_eq!(without_user(TEXT, "# people"), None);
    }
}
