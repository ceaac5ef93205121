//! Events about changes of the configuration.

use std::fmt;

use mesh_control::{
    diagnostic::{self, Style},
    source::Reload,
};
use mesh_xds::{
    client::{ApplyReport, Notice},
    resource::{ResourceError, ResourceType},
};
use tokio::sync::broadcast;

/// Events that are buffered for a slow reader; it misses older ones.
pub(crate) const CAPACITY: usize = 64;

/// The outcome of a change of the configuration. `Display` is for operators and may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigEvent {
    /// The files are valid, and their changes are about to come into force. Sent after edits without effect, too.
    Accepted(Accepted),
    /// A change of something that this program uses is in force: requests that start now obey it.
    Applied(Applied),
    /// The files have errors; the last good configuration stays in force.
    Rejected(Rejected),
}

/// See [`ConfigEvent::Accepted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Counts the valid configurations of this process, from 1.
    pub version: u64,
    /// Warnings about the files, one text each.
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
    /// The errors, one text each: `file:line:column: field: reason`.
    pub errors: Vec<String>,
    /// The same for people at a terminal, with the offending lines quoted; of more than 20 the first, errors before warnings.
    pub report: String,
}

/// Yields the events since it was created by [`Mesh::events`](crate::Mesh::events).
#[derive(Debug)]
pub struct ConfigEvents(pub(crate) broadcast::Receiver<ConfigEvent>);

impl ConfigEvents {
    /// The next event; `None` when nobody uses the mesh any more. A reader that is more than 64 events behind misses the
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

impl From<&Reload> for ConfigEvent {
    fn from(reload: &Reload) -> Self {
        match reload {
            Reload::Applied { mesh, diagnostics } => {
                let warnings = diagnostics.iter().map(ToString::to_string).collect();
                Self::Accepted(Accepted { version: mesh.version, warnings })
            }
            Reload::Rejected { diagnostics } => Self::Rejected(Rejected {
                errors: diagnostics.iter().map(ToString::to_string).collect(),
                report: diagnostic::report(diagnostics, Style::Plain),
            }),
            Reload::Unreadable(error) => {
                let error = chain(error);
                Self::Rejected(Rejected { report: error.clone(), errors: vec![error] })
            }
        }
    }
}

/// Collects what an agent reports until all of it is in force.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    applied: Applied,
    /// Whether the configuration has changed. Resources that come because they are used for the first time are no change.
    is_change: bool,
}

impl Changes {
    /// Takes a notice. Yields the changes when all of them are in force, if there are any.
    pub(crate) fn note(&mut self, notice: Notice) -> Option<Applied> {
        match notice {
            Notice::Settled => {
                let Self { applied, is_change } = std::mem::take(self);
                return is_change.then_some(applied);
            }
            Notice::Applied(ApplyReport { resource_type, is_answer, accepted, removed, rejected, .. }) => {
                self.is_change |= !is_answer || !rejected.is_empty();
                self.applied.changed.extend(accepted.iter().map(|name| resource(resource_type, name)));
                self.applied.removed.extend(removed.iter().map(|name| resource(resource_type, name)));
                self.applied.refused.extend(rejected.iter().map(ResourceError::to_string));
            }
            Notice::NotApplied(error) => {
                self.is_change = true;
                self.applied.refused.push(error.to_string());
            }
            Notice::Missing { resource_type, name } => {
                tracing::debug!(%resource_type, %name, "the control plane has no such resource");
            }
            Notice::Disconnected(reason) => tracing::warn!("{reason}"),
            _ => {}
        }
        None
    }
}

fn resource(resource_type: ResourceType, name: &str) -> String {
    format!("{resource_type} {name}")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
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
        self.refused.iter().try_for_each(|reason| write!(f, "\n  refused, the one before stays: {reason}"))
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration refused, the last good one stays in force:\n{}", self.report.trim_end())
    }
}
