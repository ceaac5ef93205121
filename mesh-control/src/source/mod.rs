//! The source of a running mesh: a directory of files, followed as they change.
//!
//! A change is applied as a whole or not at all. When no file has changed for a moment, the directory is read again and
//! checked, and only a configuration without errors becomes the next [`Mesh`]; otherwise the last good one stays in force
//! and the [`Reload`] has the reason. Nothing happens if the contents are the same as before.
//!
//! The operating system reports changes of the directory that was opened, not of its path. A directory that replaces
//! it, because it was deleted and created again or because a symbolic link has changed, is detected by a check once a
//! second.

mod debounce;
mod outcome;
mod presence;

use debounce::Settled;
use presence::Presence;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::causes::with_causes;
use mesh_xds::status::SourceStatus;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};

use crate::config::{LeftAlone, Options};
use crate::diagnostic::{self, Code, Diagnostic, Severity, Style};
use crate::load::{LoadError, Loaded, is_config_file};
use crate::mesh::Mesh;

/// The outcome of a change.
#[derive(Debug)]
pub enum Reload {
    /// It is in force; the diagnostics are warnings.
    Applied {
        /// The new configuration.
        mesh: Arc<Mesh>,
        /// Warnings.
        diagnostics: Vec<Diagnostic>,
    },
    /// It has errors; the last good configuration stays.
    Rejected {
        /// Errors and warnings.
        diagnostics: Vec<Diagnostic>,
    },
    /// The directory cannot be read; the last good configuration stays.
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

    /// Logs the outcome: WARN if the change is refused, INFO if it is applied, and WARN for each warning.
    fn log(&self) {
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

fn warn_of(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        match diagnostic.severity {
            Severity::Info => tracing::info!("{diagnostic}"),
            Severity::Error | Severity::Warning => tracing::warn!("{diagnostic}"),
        }
    }
}

fn tell_of(left_alone: &[LeftAlone]) {
    for kind in left_alone {
        tracing::info!("{kind}");
    }
}

/// The directory cannot be the source of a mesh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be listed.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    /// Its files have errors.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    /// The operating system does not report changes.
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
            Self::Unreadable(_) | Self::Watch { .. } => with_causes(self),
        }
    }
}

/// Maximum number of errors in the message about a directory that cannot be opened.
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

/// A directory that is followed while [`Directory::run`] is polled.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    options: Options,
    fingerprint: u64,
    meshes: watch::Sender<Arc<Mesh>>,
    changes: mpsc::Receiver<()>,
    /// Reports changes of the directory that is at `presence`, as long as it lives.
    _watcher: RecommendedWatcher,
    presence: Option<Presence>,
    status: Arc<SourceStatus>,
}

impl Directory {
    /// Reads the directory for the first time; the receiver yields this mesh and those that follow. Warnings are logged.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read or watched, or its configuration has errors.
    pub fn open(path: &Path, options: impl Into<Options>) -> Result<(Self, watch::Receiver<Arc<Mesh>>), OpenError> {
        let options = options.into();
        // The watch begins first, so that no change during reading is missed.
        let presence = Presence::of(path);
        let (watcher, changes) = match watch_changes(path) {
            Ok(watched) => watched,
            Err(error) => {
                // If the directory does not exist, that is the better message.
                Loaded::from_directory(path, options)?;
                return Err(error);
            }
        };
        let loaded = Loaded::from_directory(path, options.clone())?;
        if !loaded.is_valid() {
            return Err(OpenError::Invalid(loaded.diagnostics));
        }
        warn_of(&loaded.diagnostics);
        tell_of(&loaded.left_alone);
        let fingerprint = fingerprint(&loaded);
        let status = Arc::new(SourceStatus::default());
        outcome::count(&status, &loaded);
        status.accept(SystemTime::now());
        let (meshes, receiver) = watch::channel(Arc::new(loaded.mesh));
        let path = path.to_owned();
        Ok((Self { path, options, fingerprint, meshes, changes, _watcher: watcher, presence, status }, receiver))
    }

    /// What becomes of the changes of the directory, for operators.
    #[must_use]
    pub fn status(&self) -> Arc<SourceStatus> {
        Arc::clone(&self.status)
    }

    /// Follows the directory, logs the outcome of each change and passes it to `on_reload`, until every receiver has been
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it; the receivers keep the last mesh.
    pub async fn run(mut self, mut on_reload: impl FnMut(&Reload)) {
        loop {
            let settled = tokio::select! {
                () = self.meshes.closed() => return,
                settled = debounce::settled(&mut self.changes) => settled,
                presence = presence::differs(&self.path, self.presence) => self.watch_again(presence).await,
            };
            if settled == Settled::Closed {
                return;
            }
            let (path, options) = (self.path.clone(), self.options.clone());
            let load = move || Loaded::from_directory(&path, options);
            // Reading blocks, and other tasks share this thread.
            let Ok(loaded) = tokio::task::spawn_blocking(load).await else { return };
            // If files have changed while they were read, the result may be half of a change.
            let is_whole = self.changes.is_empty() || settled == Settled::Overdue;
            if is_whole && let Some(reload) = self.take(loaded) {
                reload.log();
                on_reload(&reload);
            }
        }
    }

    /// Watches the directory that is at the path now, if any; returns when nothing has changed for a moment.
    async fn watch_again(&mut self, presence: Option<Presence>) -> Settled {
        self.presence = presence;
        if presence.is_some() {
            match watch_changes(&self.path) {
                Ok((watcher, changes)) => (self._watcher, self.changes) = (watcher, changes),
                // It may have been deleted again; the next check detects it.
                Err(_) => self.presence = None,
            }
        }
        tokio::time::sleep(debounce::QUIET).await;
        Settled::Quiet
    }

    /// Puts a configuration in force if it is new and valid; `None` if nothing has changed.
    fn take(&mut self, loaded: Result<Loaded, LoadError>) -> Option<Reload> {
        let (version, at) = (self.meshes.borrow().version + 1, SystemTime::now());
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let was_reported = std::mem::replace(&mut self.fingerprint, UNREADABLE) == UNREADABLE;
                outcome::unreadable(&self.status, &error, version, at);
                return (!was_reported).then_some(Reload::Unreadable(error));
            }
        };
        let fingerprint = fingerprint(&loaded);
        if std::mem::replace(&mut self.fingerprint, fingerprint) == fingerprint {
            return None;
        }
        outcome::count(&self.status, &loaded);
        if !loaded.is_valid() {
            outcome::refuse(&self.status, &loaded.diagnostics, version, at);
            return Some(Reload::Rejected { diagnostics: loaded.diagnostics });
        }
        self.status.accept(at);
        let mesh = Arc::new(loaded.mesh.with_version(version));
        self.meshes.send_replace(Arc::clone(&mesh));
        Some(Reload::Applied { mesh, diagnostics: loaded.diagnostics })
    }
}

/// The fingerprint of a directory that cannot be read.
const UNREADABLE: u64 = 0;

/// A hash of the names and contents of all files, and of those that cannot be read, to notice that nothing has changed.
fn fingerprint(loaded: &Loaded) -> u64 {
    let mut hasher = DefaultHasher::new();
    for source in &loaded.sources {
        (&source.path, &source.text).hash(&mut hasher);
    }
    for unreadable in loaded.diagnostics.iter().filter(|diagnostic| diagnostic.code == Code::Unreadable) {
        unreadable.to_string().hash(&mut hasher);
    }
    hasher.finish()
}

/// One message for any number of changes.
fn watch_changes(path: &Path) -> Result<(RecommendedWatcher, mpsc::Receiver<()>), OpenError> {
    let (sender, receiver) = mpsc::channel(1);
    let on_event = move |event: notify::Result<notify::Event>| {
        // After an error of the watch the directory is read again.
        if event.is_ok_and(|event| !is_relevant(&event)) {
            return;
        }
        // A message that is waiting already means the same.
        let _ = sender.try_send(());
    };
    let mut watcher =
        notify::recommended_watcher(on_event).map_err(|source| OpenError::Watch { path: path.to_owned(), source })?;
    match watcher.watch(path, RecursiveMode::Recursive) {
        Ok(()) => Ok((watcher, receiver)),
        Err(source) => Err(OpenError::Watch { path: path.to_owned(), source }),
    }
}

/// Whether the event may have changed the configuration: it is not only an access, and it may be about a file of the
/// configuration. Hidden names count, because Kubernetes replaces a mounted ConfigMap by renaming one.
fn is_relevant(event: &notify::Event) -> bool {
    let is_other = |path: &PathBuf| {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        path.extension().is_some() && !is_hidden && !is_config_file(path)
    };
    // An event without paths may be about anything.
    let may_be_ours = event.paths.is_empty() || !event.paths.iter().all(is_other);
    may_be_ours && !event.kind.is_access()
}

#[cfg(test)]
mod tests;
