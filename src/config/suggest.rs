//! Which of the known names somebody meant.

/// The known name nearest to `name`, unless even that is too far away to have been meant.
///
/// Names are compared whole, and by their last part alone, for a key in the wrong section. Of several that are as near it is the
/// one least deep.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let depth = |known: &str| known.matches('.').count();
    let (distance, _, nearest) = known.into_iter().map(|known| (distance(name, known), depth(known), known)).min()?;
    (distance <= 1 + last_part(name).len() / 3).then_some(nearest)
}

/// The cost of a key in the wrong section is that of one typing error.
fn distance(name: &str, known: &str) -> usize {
    edit_distance(name, known).min(1 + edit_distance(last_part(name), last_part(known)))
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// Insertions, deletions and replacements of characters, and swaps of neighbours, that turn `from` into `to`.
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = vec![i + 1];
        for j in 0..to.len() {
            let replaced = last[j] + usize::from(from[i] != to[j]);
            let mut cost = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                let swapped: &Vec<usize> = &before_last;
                cost = cost.min(swapped[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_typing_errors() {
        for (from, to, errors) in
            [("", "abc", 3), ("qos", "qos", 0), ("qso", "qos", 1), ("retian", "retain", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(edit_distance(from, to), errors, "{from} {to}");
            assert_eq!(edit_distance(to, from), errors, "{to} {from}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_across_sections_or_not_at_all() {
        let known = ["limits.packet_bytes_max", "limits.topic_bytes_max", "wills.slice"];
        assert_eq!(nearest("limits.packet_byte_max", known), Some("limits.packet_bytes_max"));
        assert_eq!(nearest("packet_bytes_max", known), Some("limits.packet_bytes_max"));
        assert_eq!(nearest("limits.persistence", known), None);
    }
}
