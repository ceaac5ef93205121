//! Suggestions for misspelt names.

use mesh_core::nearest::nearest;

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
