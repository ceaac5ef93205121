//! Suggestions for misspelt names.

use crate::diagnostic::Diagnostic;

/// Adds the nearest of `names` to the diagnostic, or all of them if none is near.
pub(super) fn suggest(diagnostic: Diagnostic, text: &str, names: &[&str]) -> Diagnostic {
    match nearest(text, names.iter().copied()) {
        Some(name) => diagnostic.help(format!("did you mean `{name}`?")),
        None if diagnostic.label.starts_with("unknown") => {
            diagnostic.help(format!("known fields: {}", names.join(", ")))
        }
        None => diagnostic,
    }
}

/// The name that was most likely meant: the most similar one, if it differs in a third of the letters at most.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let wanted = plain(text);
    let (distance, name) = names.map(|name| (distance(&plain(name), &wanted), name)).min()?;
    (distance <= wanted.len() / 3).then_some(name)
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
