//! Where the configuration of a running mesh comes from, followed as it changes.
//!
//! ```text
//! ConfigSource: directory ──┐ contents
//! ConfigSource: objects ────┼─────────► Follower: debounce ─► load (read, validate) ─► Mesh
//! ConfigSource: ... ────────┘                                        │
//!                  ▲───────────────────── verdict ───────────────────┘
//! ```
//!
//! A [`ConfigSource`] is one place that resources and services come from, which Istio calls a registry or a config store. It
//! yields documents, the same as files have, so that a resource is read, checked and translated in one way wherever it is
//! kept. A [`Follower`] joins any number of sources to one mesh, in which the resources of one may refer to those of another.
//!
//! A change is applied when no other has followed it for a moment, and a [`Unit`] of it is applied as a whole or not at all:
//! all files of a [`Directory`], which are edited together, or one object of a server, which has many authors. If a unit has
//! errors, its last good version stays in force, and the others change. Without a last good version, an object is left out,
//! except that a policy of security is never left out: then the whole change is refused.

mod admission;
#[cfg(feature = "consul")]
pub mod consul;
mod debounce;
#[cfg(feature = "watch")]
mod directory;
mod follower;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod objects;
mod outcome;
#[cfg(feature = "watch")]
mod presence;
mod reload;

#[cfg(feature = "watch")]
pub use directory::Directory;
pub use follower::Follower;
pub use objects::Objects;
pub use reload::{OpenError, Reload};

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source};
use crate::load::{LoadError, Loaded};

/// A future of a [`ConfigSource`], which is a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is accepted or refused together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Everything that the source has.
    Source,
    /// Each document on its own.
    Document,
}

/// What a source has at one time.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Contents {
    /// Its documents, in an order that stays the same. The paths are unique.
    pub documents: Vec<Arc<Source>>,
    /// What could not be read. An error refuses the contents of a source that is one [`Unit`].
    pub diagnostics: Vec<Diagnostic>,
}

impl Contents {
    /// Contents that could be read.
    pub fn new(documents: Vec<Arc<Source>>) -> Self {
        Self { documents, diagnostics: Vec::new() }
    }
}

/// One place that resources and services come from.
///
/// A source that loses its server keeps what it has, and connects again by itself.
pub trait ConfigSource: fmt::Debug + Send {
    /// What is accepted or refused together.
    fn unit(&self) -> Unit;

    /// Everything that it has now. The first call waits until it has everything.
    ///
    /// # Errors
    ///
    /// If nothing of it can be read. What was read before stays in force.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    fn read(&mut self) -> BoxFuture<'_, Result<Contents, LoadError>>;

    /// Waits until there may be a change since the last call of `read`, or of `changed` itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change.
    fn changed(&mut self) -> BoxFuture<'_, ()>;

    /// Learns what has become of a change, so that it can tell the authors of its resources. Called after each change of any
    /// source; must not block.
    fn handle_verdict(&mut self, verdict: &Verdict<'_>) {
        let _ = verdict;
    }
}

/// What has become of a change.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Verdict<'a> {
    /// What is in force now if [`Loaded::is_valid`]; otherwise what was in force before stays.
    pub loaded: &'a Loaded,
    /// The errors of the units that were refused.
    pub refused: &'a [Diagnostic],
}

#[cfg(test)]
#[cfg(feature = "watch")]
mod tests;
