//! Suggestions for misspelt names.

/// The name that is most similar to `text`, if their edit distance is at most a third of the length of `text`. Case, `_` and
/// `-` are ignored.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normalize(text);
    let (distance, name) = names.map(|name| (distance(&normalize(name), &wanted), name)).min()?;
    is_near(distance, &wanted).then_some(name)
}

/// The edit distance of `name` and `text`, if it is small enough for a suggestion.
pub(crate) fn difference(text: &str, name: &str) -> Option<usize> {
    let wanted = normalize(text);
    let distance = distance(&normalize(name), &wanted);
    is_near(distance, &wanted).then_some(distance)
}

fn normalize(name: &str) -> String {
    name.replace(['_', '-'], "").to_ascii_lowercase()
}

fn is_near(distance: usize, wanted: &str) -> bool {
    distance <= wanted.len() / 3
}

/// Levenshtein distance: the minimum number of edits that turn one name into the other.
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
