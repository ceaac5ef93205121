//! The logs of an agent, in the proxy and in the library.

use crate::client::notice::{ApplyReport, Notice};

/// Logs a notice: INFO for a change that is in force, WARN for a refused one, DEBUG for a resource that is used for the first
/// time.
pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::Applied(report) => log_report(report),
        Notice::NotApplied(error) => tracing::warn!("{error}: not applied, the previous version stays in force"),
        Notice::Missing { resource_type, name } => tracing::debug!("{resource_type} {name}: does not exist"),
        Notice::Disconnected(reason) => tracing::warn!("{reason}"),
        Notice::Connected | Notice::Settled => {}
    }
}

fn log_report(report: &ApplyReport) {
    let ApplyReport { resource_type, is_answer, accepted, removed, rejected, ignored, .. } = report;
    for name in accepted {
        if *is_answer {
            tracing::debug!("{resource_type} {name}: in use");
        } else {
            tracing::info!("{resource_type} {name}: applied");
        }
    }
    for name in removed {
        tracing::info!("{resource_type} {name}: removed");
    }
    for error in rejected {
        tracing::warn!("{error}: refused, the previous version stays in force");
    }
    for (name, ignored) in ignored {
        tracing::debug!("{resource_type} {name}: {} has no effect: {}", ignored.path, ignored.reason);
    }
}
