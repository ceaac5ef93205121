//! Errors of targets, with suggestions.

use std::{fmt, num::NonZeroU16};

use thiserror::Error;

use super::{CLUSTER_DOMAIN, Target};
use crate::nearest::difference;

/// Maximum number of names in a [`Suggestion`].
const MAX_SUGGESTED: usize = 5;

/// The example of a valid target, if none can be suggested.
const EXAMPLE: &str = "reviews:9080";

/// A string is not a valid target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid target {target:?}: {reason}; expected HOST[:PORT], such as {example:?}")]
#[non_exhaustive]
pub struct InvalidTarget {
    /// The string.
    pub target: String,
    /// What is wrong with it.
    pub reason: &'static str,
    /// A valid target: the one that was probably intended, if there is one.
    pub example: String,
}

impl InvalidTarget {
    /// The error for `target`, with an example of a valid one.
    #[must_use]
    pub fn new(target: &str, reason: &'static str) -> Self {
        Self { target: target.to_owned(), reason, example: EXAMPLE.to_owned() }
    }
}

/// A target has no listener.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnknownTarget {
    /// The mesh has no service of this name.
    #[error("the mesh has no service {target}; {suggestion}")]
    NoService {
        /// The target.
        target: Target,
        /// Similar or existing services.
        suggestion: Suggestion,
    },
    /// The service has no such port.
    #[error("the service {host} has no port {port}; it has {ports}")]
    NoPort {
        /// The service, as given in the target.
        host: Box<str>,
        /// The requested port.
        port: NonZeroU16,
        /// The ports of the service, in ascending order.
        ports: String,
    },
    /// The target has no port, and the service has several.
    #[error("the service {target} has several ports ({ports}); add the port")]
    SeveralPorts {
        /// The target.
        target: Target,
        /// The ports, in ascending order.
        ports: String,
    },
}

/// Suggestions for a name that does not exist: similar names, or else some of the names that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    are_similar: bool,
    /// At most [`MAX_SUGGESTED`].
    names: Vec<String>,
    others: usize,
}

impl Suggestion {
    /// Suggests some of `names`, each `HOST` or `HOST:PORT`, for `host` in `namespace`. They are displayed in the shortest form
    /// that is valid in `namespace`.
    #[must_use]
    pub fn new<'a>(host: &str, names: impl IntoIterator<Item = &'a str>, namespace: &str) -> Self {
        let (here, anywhere) = (format!(".{namespace}.svc.{CLUSTER_DOMAIN}"), format!(".svc.{CLUSTER_DOMAIN}"));
        let short =
            |host: &str| host.strip_suffix(&here).or_else(|| host.strip_suffix(&anywhere)).unwrap_or(host).to_owned();
        let host = short(host);
        let names = names.into_iter().map(|name| match name.rsplit_once(':') {
            Some((name, port)) => (dissimilarity(&host, &short(name)), format!("{}:{port}", short(name))),
            None => (dissimilarity(&host, &short(name)), short(name)),
        });
        let (mut similar, others): (Vec<_>, Vec<_>) = names.partition(|(dissimilarity, _)| dissimilarity.is_some());
        similar.sort();
        let are_similar = !similar.is_empty();
        let found = if are_similar { similar } else { others };
        let others = found.len().saturating_sub(MAX_SUGGESTED);
        let names = found.into_iter().take(MAX_SUGGESTED).map(|(_, name)| name).collect();
        Self { are_similar, names, others }
    }
}

/// The difference between a name and `host`: of the whole names, or else of their first labels, which are similar if only the
/// namespace is wrong. `None` if neither is similar.
fn dissimilarity(host: &str, name: &str) -> Option<(bool, usize)> {
    let label = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let as_a_whole = difference(host, name).map(|difference| (false, difference));
    as_a_whole.or_else(|| difference(&label(host), &label(name)).map(|difference| (true, difference)))
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { are_similar, names, others } = self;
        if names.is_empty() {
            return f.write_str("no services are known");
        }
        f.write_str(if *are_similar { "did you mean " } else { "known services: " })?;
        f.write_str(&names.join(", "))?;
        if *others > 0 {
            write!(f, " and {others} more")?;
        }
        f.write_str(if *are_similar { "?" } else { "" })
    }
}
