//! Patterns in which `*` stands for anything.

/// Whether `text` fits `pattern`, in which each `*` stands for any characters, or none.
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let (middle, back) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut text) = text.strip_prefix(front).and_then(|text| text.strip_suffix(back)) else {
        return false;
    };
    // Each piece where it comes first: what is left for the others is as long as can be.
    for piece in middle.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in [
            ("lamp", "lamp"),
            ("*", ""),
            ("*", "lamp"),
            ("lamp-*", "lamp-1"),
            ("lamp-*", "lamp-"),
            ("*-1", "lamp-1"),
            ("l*p*1", "lamp-p-1"),
            ("a**b", "ab"),
            ("*a*a*", "aa"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("lamp", "lamp-1"), ("lamp-*", "lamp"), ("a*a", "a"), ("*a*a*", "a"), ("a*b*c", "acb")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    /// The definition, which takes for ever where there are many stars.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some((b'*', rest)), None) => defined(rest, text),
            (Some((b'*', rest)), Some((_, shorter))) => defined(rest, text) || defined(pattern, shorter),
            (Some((wanted, rest)), Some((given, shorter))) => wanted == given && defined(rest, shorter),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab*]{0,7}", text in "[ab]{0,8}") {
            prop_assert_eq!(fits(&pattern, &text), defined(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
