//! How two Topic Filters relate: whether one matches all that the other matches, and whether they match anything in common.
//!
//! Both questions are asked of levels, so that a filter need not exist as a string to be asked about.

use super::TopicFilter;

/// Whether every Topic Name that `filter` matches is matched by `pattern`, too. A Topic Name's own levels are a filter that matches it alone.
///
/// Both have the levels of a valid Topic Filter.
pub fn covers<P: AsRef<str>, F: AsRef<str>>(
    pattern: impl IntoIterator<Item = P>,
    filter: impl IntoIterator<Item = F>,
) -> bool {
    let (mut pattern, mut filter) = (pattern.into_iter(), filter.into_iter());
    let mut is_first = true;
    // The levels so far are the empty string, which is no Topic Name. [MQTT-4.7.3-1]
    let mut is_empty = true;
    loop {
        let (wide, narrow) = (pattern.next(), filter.next());
        match (wide.as_ref().map(P::as_ref), narrow.as_ref().map(F::as_ref)) {
            (None, None) => return true,
            // Leading wildcards do not see the server's own topics. [MQTT-4.7.2-1]
            (Some("#" | "+"), Some(level)) if is_first && level.starts_with('$') => return false,
            (Some("#"), _) => return true, // The parent level too. (§4.7.1.2)
            // The parent level is the one difference between `+/#` and `#`, and here it is no Topic Name.
            (Some("+"), Some("#")) => return is_empty && pattern.next().is_some_and(|next| next.as_ref() == "#"),
            (Some("+"), Some(level)) => is_empty = is_first && level.is_empty(),
            (Some(level), Some(narrow)) if level == narrow => is_empty = is_first && level.is_empty(),
            _ => return false,
        }
        is_first = false;
    }
}

/// Whether there is a Topic Name that both match.
///
/// Both have the levels of a valid Topic Filter.
pub fn overlaps<L: AsRef<str>, R: AsRef<str>>(
    left: impl IntoIterator<Item = L>,
    right: impl IntoIterator<Item = R>,
) -> bool {
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    let mut is_first = true;
    // The levels so far can only be the empty string, which is no Topic Name. [MQTT-4.7.3-1]
    let mut is_empty = true;
    loop {
        let (one, other) = (left.next(), right.next());
        match (one.as_ref().map(L::as_ref), other.as_ref().map(R::as_ref)) {
            (None, None) => return true,
            (Some("#" | "+"), Some(level)) | (Some(level), Some("#" | "+")) if is_first && level.starts_with('$') => {
                return false; // [MQTT-4.7.2-1]
            }
            (Some("#"), None) | (None, Some("#")) => return !is_empty, // The parent level. (§4.7.1.2)
            (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(level)) | (Some(level), Some("+")) => is_empty = is_first && level.is_empty(),
            (Some(level), Some(other)) if level == other => is_empty = is_first && level.is_empty(),
            _ => return false,
        }
        is_first = false;
    }
}

impl TopicFilter {
    /// Whether every Topic Name that `other` matches is matched by this filter, too.
    pub fn covers(&self, other: &Self) -> bool {
        covers(self.levels(), other.levels())
    }

    /// Whether there is a Topic Name that both filters match.
    pub fn overlaps(&self, other: &Self) -> bool {
        overlaps(self.levels(), other.levels())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn a_filter_covers_what_it_matches_whole() {
        for (wide, narrow) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("a/#", "a"),
            ("a/#", "a/#"),
            ("a/#", "a/+/#"),
            ("#", "a/+"),
            ("#", "+/a"),
            ("+/#", "#"),
            ("/+/#", "/#"),
            ("$SYS/#", "$SYS/+/x"),
        ] {
            assert!(filter(wide).covers(&filter(narrow)), "{wide} covers {narrow}");
        }
        for (wide, narrow) in [
            ("a/b", "a/+"),
            ("a/+", "a/#"),
            ("a/+/#", "a/#"),
            ("+/+/#", "#"),
            ("a", "a/#"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("+/#", "$SYS/#"),
        ] {
            assert!(!filter(wide).covers(&filter(narrow)), "{wide} does not cover {narrow}");
        }
    }

    #[test]
    fn filters_overlap_where_one_topic_matches_both() {
        for (one, other) in
            [("a/+", "+/b"), ("a/#", "a"), ("a/#", "+/b/+"), ("#", "+"), ("$SYS/+", "$SYS/x"), ("a/+/c", "a/b/#")]
        {
            assert!(filter(one).overlaps(&filter(other)) && filter(other).overlaps(&filter(one)), "{one} {other}");
        }
        for (one, other) in
            [("a/+", "a"), ("a/b", "a/c"), ("#", "$SYS/#"), ("+/x", "$SYS/x"), ("a/+/c", "a/+"), ("+", "/#")]
        {
            assert!(!filter(one).overlaps(&filter(other)) && !filter(other).overlaps(&filter(one)), "{one} {other}");
        }
    }
}
