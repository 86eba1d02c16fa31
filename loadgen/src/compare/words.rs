//! A command on the command line, cut into words as a shell would: quotes hold words together, and nothing else is
//! special.

/// The words of `text`; `None` if a quote is not closed.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => word.get_or_insert_default().push_str(&quoted(&mut letters, letter)?),
            '\\' => word.get_or_insert_default().push(letters.next()?),
            _ if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

/// What comes before the closing `quote`. Between double quotes a backslash makes them ordinary.
fn quoted(letters: &mut std::str::Chars<'_>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match letters.next()? {
            letter if letter == quote => return Some(text),
            '\\' if quote == '"' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        let found = words(r#"sh -c 'exec "broker" -p {port}'  a\ b "c \"d\"" '' x"y"z"#).unwrap();
        assert_eq!(found, ["sh", "-c", r#"exec "broker" -p {port}"#, "a b", r#"c "d""#, "", "xyz"]);
        assert_eq!(words("  "), Some(Vec::new()));
        assert_eq!(words("sh -c 'open"), None);
    }
}
