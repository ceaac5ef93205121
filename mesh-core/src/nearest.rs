//! Suggestions for misspelt names.

/// The name that was most likely meant: the most similar one, if it differs in a third of the letters at most. Case, `_` and
/// `-` do not matter.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(text);
    let (distance, name) = names.map(|name| (distance(&plain(name), &wanted), name)).min()?;
    is_near(distance, &wanted).then_some(name)
}

/// How much `name` differs from `text`, if it may have been meant.
pub(crate) fn difference(text: &str, name: &str) -> Option<usize> {
    let wanted = plain(text);
    let distance = distance(&plain(name), &wanted);
    is_near(distance, &wanted).then_some(distance)
}

fn plain(name: &str) -> String {
    name.replace(['_', '-'], "").to_ascii_lowercase()
}

fn is_near(distance: usize, wanted: &str) -> bool {
    distance <= wanted.len() / 3
}

/// Levenshtein distance: edits that turn one name into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.chars().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [("", "", 0), ("uri", "urii", 1), ("kitten", "sitting", 3), ("abc", "", 3)] {
            assert_eq!(distance(a, b), expected);
            assert_eq!(distance(b, a), expected);
        }
    }
}
