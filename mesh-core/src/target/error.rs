//! Why a target cannot be called.

use std::{fmt, num::NonZeroU16};

use thiserror::Error;

use super::{CLUSTER_DOMAIN, Target};
use crate::nearest::difference;

/// Most names in a [`Suggestion`].
const MAX_SUGGESTED: usize = 5;

/// The example of a target, unless one is probably meant.
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
    /// A valid target; the one that was probably meant, if that can be told.
    pub example: String,
}

impl InvalidTarget {
    pub(super) fn new(target: &str, reason: &'static str) -> Self {
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
        /// What there is.
        suggestion: Suggestion,
    },
    /// The service has no such port.
    #[error("the service {host} has no port {port}; it has {ports}")]
    NoPort {
        /// The service, as it was named.
        host: Box<str>,
        /// The port that was asked for.
        port: NonZeroU16,
        /// The ports that it has, in ascending order.
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

/// What may have been meant instead of a name that does not exist: the names that are similar, or else some that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    are_similar: bool,
    /// At most [`MAX_SUGGESTED`].
    names: Vec<String>,
    others: usize,
}

impl Suggestion {
    /// What of `names`, each `HOST` or `HOST:PORT`, may have been meant by `host` in `namespace`. They are shown in the
    /// shortest form that is understood there.
    #[must_use]
    pub fn new<'a>(host: &str, names: impl IntoIterator<Item = &'a str>, namespace: &str) -> Self {
        let (here, anywhere) = (format!(".{namespace}.svc.{CLUSTER_DOMAIN}"), format!(".svc.{CLUSTER_DOMAIN}"));
        let short =
            |host: &str| host.strip_suffix(&here).or_else(|| host.strip_suffix(&anywhere)).unwrap_or(host).to_owned();
        let host = short(host);
        let names = names.into_iter().map(|name| match name.rsplit_once(':') {
            Some((name, port)) => (unlikeness(&host, &short(name)), format!("{}:{port}", short(name))),
            None => (unlikeness(&host, &short(name)), short(name)),
        });
        let (mut similar, others): (Vec<_>, Vec<_>) = names.partition(|(unlikeness, _)| unlikeness.is_some());
        similar.sort();
        let are_similar = !similar.is_empty();
        let found = if are_similar { similar } else { others };
        let others = found.len().saturating_sub(MAX_SUGGESTED);
        let names = found.into_iter().take(MAX_SUGGESTED).map(|(_, name)| name).collect();
        Self { are_similar, names, others }
    }
}

/// How much a name differs from `host`: as a whole, or else in its first label, as it does with a wrong namespace.
fn unlikeness(host: &str, name: &str) -> Option<(bool, usize)> {
    let label = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let as_a_whole = difference(host, name).map(|difference| (false, difference));
    as_a_whole.or_else(|| difference(&label(host), &label(name)).map(|difference| (true, difference)))
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { are_similar, names, others } = self;
        if names.is_empty() {
            return f.write_str("none is known");
        }
        f.write_str(if *are_similar { "did you mean " } else { "known are " })?;
        f.write_str(&names.join(", "))?;
        if *others > 0 {
            write!(f, " and {others} more")?;
        }
        f.write_str(if *are_similar { "?" } else { "" })
    }
}
