//! Events about changes of the configuration.

use std::fmt;

use tokio::sync::broadcast;

/// Events that are buffered for a slow reader; it misses older ones.
pub(crate) const CAPACITY: usize = 64;

/// The outcome of a change of the configuration. `Display` is for operators and may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigEvent {
    /// The files of a directory are valid, and their changes are about to come into force. Sent after edits without effect,
    /// too.
    Accepted(Accepted),
    /// A change of resources that this program uses is in force for requests that start now.
    Applied(Applied),
    /// The files of a directory have errors; the last good configuration stays in force.
    Rejected(Rejected),
}

/// See [`ConfigEvent::Accepted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Counts the valid configurations of this process, from 1.
    pub version: u64,
    /// Warnings about the files, one string each.
    pub warnings: Vec<String>,
}

/// See [`ConfigEvent::Applied`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Resources that are new or changed, such as `cluster outbound|9080|v1|reviews.default.svc.cluster.local`.
    pub changed: Vec<String>,
    /// Resources that were removed.
    pub removed: Vec<String>,
    /// Resources that were refused, with the reason; their predecessors stay in force.
    pub refused: Vec<String>,
}

/// See [`ConfigEvent::Rejected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The errors, one string each: `file:line:column: field: reason`.
    pub errors: Vec<String>,
    /// The errors and warnings for a terminal, with the lines that they refer to: at most 20, errors first.
    pub report: String,
}

/// Yields the events since it was created by [`Mesh::events`](crate::Mesh::events).
#[derive(Debug)]
pub struct ConfigEvents(pub(crate) broadcast::Receiver<ConfigEvent>);

impl ConfigEvents {
    /// The next event; `None` when the mesh is no longer in use. A reader that is more than 64 events behind misses the
    /// oldest.
    ///
    /// # Cancel safety
    /// No event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<ConfigEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "configuration events were not read in time");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl fmt::Display for ConfigEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(accepted) => accepted.fmt(f),
            Self::Applied(applied) => applied.fmt(f),
            Self::Rejected(rejected) => rejected.fmt(f),
        }
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration {} is valid", self.version)?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\n  warning: {warning}"))
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("in force now:")?;
        self.changed.iter().try_for_each(|name| write!(f, "\n  {name}"))?;
        self.removed.iter().try_for_each(|name| write!(f, "\n  removed: {name}"))?;
        self.refused.iter().try_for_each(|reason| write!(f, "\n  refused, the previous one stays: {reason}"))
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration refused, the last good one stays in force:\n{}", self.report.trim_end())
    }
}
