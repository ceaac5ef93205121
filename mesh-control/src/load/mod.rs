//! Loads a configuration: finds its files, reads the resources, and checks each of them and all of them together.
//!
//! [`Loaded::from_directory`] is the entry point. It does not stop at the first mistake: [`Loaded::diagnostics`] has all.

mod directory;

pub use directory::LoadError;
#[cfg(feature = "watch")]
pub(crate) use directory::{is_config_file, read as read_directory};

use std::path::Path;
use std::sync::Arc;

use crate::config::{self, LeftAlone, Options};
use crate::diagnostic::{self, Diagnostic, Severity, Source};
use crate::mesh::Mesh;
use crate::validate;

/// The outcome of reading a configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The mesh of the resources that could be read; complete and consistent only if [`Loaded::is_valid`].
    pub mesh: Mesh,
    /// All errors and warnings, sorted by file, line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// The files, in the order in which they were read.
    pub sources: Vec<Arc<Source>>,
    /// Kubernetes objects that have nothing to do with a mesh, by kind.
    pub left_alone: Vec<LeftAlone>,
}

impl Loaded {
    /// Reads all `*.yaml`, `*.yml` and `*.json` files below the directory; hidden files and folders are skipped.
    ///
    /// # Errors
    ///
    /// If the directory or a folder in it cannot be listed. A file that cannot be read is a diagnostic.
    pub fn from_directory(directory: &Path, options: impl Into<Options>) -> Result<Self, LoadError> {
        let (sources, unreadable) = directory::read(directory)?;
        Ok(Self::check(sources, unreadable, &options.into()))
    }

    /// Reads files that are already in memory.
    pub fn from_sources(sources: Vec<Arc<Source>>, options: impl Into<Options>) -> Self {
        Self::check(sources, Vec::new(), &options.into())
    }

    /// Reads and checks `sources`. `unreadable` has a diagnostic for each file that could not be read.
    pub(crate) fn check(sources: Vec<Arc<Source>>, unreadable: Vec<Diagnostic>, options: &Options) -> Self {
        let config::Read { config, mut diagnostics, mut completeness, left_alone } = config::read(&sources, options);
        if !unreadable.is_empty() {
            completeness.lose_any();
        }
        diagnostics.extend(unreadable);
        // In a configuration that was read in part, a warning may only be due to what is missing.
        let is_whole = diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error);
        let mesh = Mesh::new(config).with_certificates(options.certificates);
        let found = validate::check(&mesh, &completeness, options).into_iter();
        diagnostics.extend(found.filter(|diagnostic| is_whole || diagnostic.severity == Severity::Error));
        diagnostic::sort(&mut diagnostics);
        Self { mesh, diagnostics, sources, left_alone }
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
