//! The outcome of a change, and why sources cannot be opened.

#[cfg(feature = "watch")]
use std::path::PathBuf;
use std::sync::Arc;

use mesh_core::causes::with_causes;

use crate::config::LeftAlone;
use crate::diagnostic::{self, Diagnostic, Severity, Style};
use crate::load::LoadError;
use crate::mesh::Mesh;

/// The outcome of a change.
#[derive(Debug)]
pub enum Reload {
    /// It is in force, except for units that were refused.
    Applied {
        /// The new configuration.
        mesh: Arc<Mesh>,
        /// Warnings, and the errors of the [units](super::Unit) that were refused.
        diagnostics: Vec<Diagnostic>,
    },
    /// It has errors; the last good configuration stays.
    Rejected {
        /// Errors and warnings.
        diagnostics: Vec<Diagnostic>,
    },
    /// A source cannot be read; the last good configuration stays.
    Unreadable(LoadError),
}

impl Reload {
    /// The reason why the change is not in force, for display in a terminal; `None` if it is in force.
    #[must_use]
    pub fn report(&self, style: Style) -> Option<String> {
        match self {
            Self::Applied { .. } => None,
            Self::Rejected { diagnostics } => Some(diagnostic::report(diagnostics, style)),
            Self::Unreadable(error) => Some(with_causes(error)),
        }
    }

    /// Logs the outcome: WARN if the change is refused, INFO if it is applied, and WARN for each warning and each error of
    /// what is left out.
    pub(super) fn log(&self) {
        match self {
            Self::Applied { mesh, diagnostics } => {
                tracing::info!("configuration {} is valid", mesh.version);
                warn_of(diagnostics);
            }
            Self::Rejected { .. } | Self::Unreadable(_) => {
                let report = self.report(Style::Plain).unwrap_or_default();
                tracing::warn!("configuration refused, the last good one stays in force:\n{}", report.trim_end());
            }
        }
    }
}

pub(super) fn warn_of(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        match diagnostic.severity {
            Severity::Info => tracing::info!("{diagnostic}"),
            Severity::Error | Severity::Warning => tracing::warn!("{diagnostic}"),
        }
    }
}

pub(super) fn tell_of(left_alone: &[LeftAlone]) {
    for kind in left_alone {
        tracing::info!("{kind}");
    }
}

/// The sources cannot configure a mesh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A directory cannot be listed.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    /// There are errors.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    /// The operating system does not report changes.
    #[cfg(feature = "watch")]
    #[error("cannot watch the directory {} for changes", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: notify::Error,
    },
}

impl OpenError {
    /// The reason with its causes. Mistakes in files have the format of `mesh-control validate`; at most 20 are included.
    pub fn report(&self, style: Style) -> String {
        match self {
            Self::Invalid(diagnostics) => {
                format!("the configuration has errors\n\n{}", diagnostic::report(diagnostics, style).trim_end())
            }
            _ => with_causes(self),
        }
    }
}

/// Maximum number of errors in the message about sources that cannot be opened.
const MAX_LISTED: usize = 20;

fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let mut lines: Vec<_> = errors.map(ToString::to_string).collect();
    let others = lines.len().saturating_sub(MAX_LISTED);
    lines.truncate(MAX_LISTED);
    if others > 0 {
        lines.push(format!("... and {others} more"));
    }
    format!("the configuration has errors:\n{}", lines.join("\n"))
}
