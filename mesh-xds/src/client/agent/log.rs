//! The logs of an agent, in the proxy and in the library.

use std::time::Instant;

use crate::client::notice::{ApplyReport, Notice};
use crate::client::summary::Summary;

/// Logs notices: INFO for a change in numbers when all of it is in force, DEBUG for each resource, WARN for a refused one.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// What has changed since everything was last in force, and when that began.
    changes: Option<(Summary, Instant)>,
    /// Whether everything has been in force once.
    has_settled: bool,
}

impl Log {
    pub(super) fn add(&mut self, notice: &Notice, now: Instant) {
        match notice {
            Notice::Applied(report) => {
                self.count(report, now);
                log_report(report);
            }
            Notice::NotApplied(error) => tracing::warn!("{error}: not applied, the previous version stays in force"),
            Notice::Missing { resource_type, name } => tracing::debug!("{resource_type} {name}: does not exist"),
            Notice::Disconnected(reason) => tracing::warn!("{reason}"),
            Notice::Settled => {
                self.has_settled = true;
                if let Some((changes, since)) = self.changes.take() {
                    tracing::info!("{changes} in {} ms", now.saturating_duration_since(since).as_millis());
                }
            }
            Notice::Unsubscribed { resource_type, names } => {
                names.iter().for_each(|name| tracing::debug!("{resource_type} {name}: no longer in use"));
            }
            Notice::Connected => {}
        }
    }

    /// Counts the resources of the first configuration and of each change. A resource that a library uses for the first time
    /// is no change by itself.
    fn count(&mut self, report: &ApplyReport, now: Instant) {
        let is_change = !report.is_answer || !self.has_settled || self.changes.is_some();
        if !is_change || (report.accepted.is_empty() && report.removed.is_empty()) {
            return;
        }
        let (summary, _) = self.changes.get_or_insert_with(|| (Summary::default(), now));
        summary.add(report.resource_type, report.accepted.len(), report.removed.len());
    }
}

fn log_report(report: &ApplyReport) {
    let ApplyReport { resource_type, is_answer, accepted, removed, rejected, ignored, .. } = report;
    let event = if *is_answer { "in use" } else { "applied" };
    for name in accepted {
        tracing::debug!("{resource_type} {name}: {event}");
    }
    for name in removed {
        tracing::debug!("{resource_type} {name}: removed");
    }
    for rejected in rejected {
        tracing::warn!("{}: refused, the previous version stays in force", rejected.error);
    }
    for (name, ignored) in ignored {
        tracing::debug!("{resource_type} {name}: {} has no effect: {}", ignored.path, ignored.reason);
    }
}
