//! A configuration as a whole: its files found, read and held against each other.
//!
//! [`Loaded::from_directory`] is the way in. It reads each resource ([`config`]), then checks how they fit
//! together, and never stops at the first mistake; all of a run are in [`Loaded::diagnostics`].

mod directory;

pub use directory::LoadError;
pub(crate) use directory::is_config_file;

use std::path::Path;
use std::sync::Arc;

use crate::config::{self, Config, Strictness};
use crate::diagnostic::{self, Diagnostic, Severity, Source};
use crate::validate;

/// The outcome of reading a configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What could be read; complete and consistent only if [`Loaded::is_valid`].
    pub config: Config,
    /// All that is wrong or doubtful, sorted by file, line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// The files, in the order in which they were read.
    pub sources: Vec<Arc<Source>>,
}

impl Loaded {
    /// Reads all `*.yaml`, `*.yml` and `*.json` files below the directory; hidden files and folders are skipped.
    ///
    /// # Errors
    ///
    /// If the directory or a folder in it cannot be listed. A file that cannot be read is a diagnostic.
    pub fn from_directory(directory: &Path, strictness: Strictness) -> Result<Self, LoadError> {
        let (sources, unreadable) = directory::read(directory)?;
        Ok(Self::check(sources, unreadable, strictness))
    }

    /// Reads files that are already in memory.
    pub fn from_sources(sources: Vec<Arc<Source>>, strictness: Strictness) -> Self {
        Self::check(sources, Vec::new(), strictness)
    }

    /// Reads `sources`; the files that `unreadable` is about are there, too.
    fn check(sources: Vec<Arc<Source>>, unreadable: Vec<Diagnostic>, strictness: Strictness) -> Self {
        let config::Read { config, mut diagnostics, mut gaps } = config::read(&sources, strictness);
        if !unreadable.is_empty() {
            gaps.add_unknown();
        }
        diagnostics.extend(unreadable);
        // What was read in part may look doubtful only because of what is missing.
        let is_whole = diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error);
        let found = validate::check(&config, &gaps).into_iter();
        diagnostics.extend(found.filter(|diagnostic| is_whole || diagnostic.severity == Severity::Error));
        diagnostic::sort(&mut diagnostics);
        Self { config, diagnostics, sources }
    }

    /// Whether the configuration can be served: there is no error.
    pub fn is_valid(&self) -> bool {
        self.count(Severity::Error) == 0
    }

    /// Number of diagnostics of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }
}

#[cfg(test)]
mod tests;
