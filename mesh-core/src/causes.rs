//! The text of an error and its causes.

use std::error::Error;

/// The text of `error`, followed by those of its sources, separated by `: `.
///
/// ```
/// # use mesh_core::causes::with_causes;
/// let error = std::io::Error::other("the disk is full");
/// assert_eq!(with_causes(&error), "the disk is full");
/// ```
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    texts.join(": ")
}

/// `error` and its sources.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_source_is_named() {
        assert_eq!(with_causes(&Outer(std::io::Error::other("the disk is full"))), "cannot write: the disk is full");
    }
}
