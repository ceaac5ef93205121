//! Where a running mesh gets its configuration from: a directory of files, followed as they change.
//!
//! A change is taken whole or not at all. The directory is read again once it has been quiet for a moment, all of it
//! is checked, and only a configuration without errors becomes the next [`Mesh`]; otherwise the last good one stays and
//! the [`Reload`] says why. Nothing happens if the files say what they said before.
//!
//! The operating system reports changes of the directory that was there at first, not of the path: one that takes its
//! place, because it was deleted and made again or a link leads elsewhere now, is noticed by looking once a second.

mod debounce;
mod presence;

use debounce::Settled;
use presence::Presence;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};

use crate::config::Strictness;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::load::{LoadError, Loaded, is_config_file};
use crate::mesh::Mesh;

/// What became of a change.
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

/// The directory cannot be the source of a mesh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be listed.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    /// What it holds has errors.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    /// The operating system does not report changes.
    #[error("cannot watch the directory {} for changes", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: notify::Error,
    },
}

/// Most errors that are told of a directory that cannot be opened.
const MAX_TOLD: usize = 20;

fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let mut lines: Vec<_> = errors.map(ToString::to_string).collect();
    let others = lines.len().saturating_sub(MAX_TOLD);
    lines.truncate(MAX_TOLD);
    if others > 0 {
        lines.push(format!("... and {others} more"));
    }
    format!("the configuration has errors:\n{}", lines.join("\n"))
}

/// A directory that is followed while [`Directory::run`] is polled.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fingerprint: u64,
    meshes: watch::Sender<Arc<Mesh>>,
    changes: mpsc::Receiver<()>,
    /// Reports changes of the directory that is at `presence`, as long as it lives.
    _watcher: RecommendedWatcher,
    presence: Option<Presence>,
}

impl Directory {
    /// Reads the directory for the first time; the receiver yields this mesh and those that follow. Warnings are logged.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read or watched, or its configuration has errors.
    pub fn open(path: &Path) -> Result<(Self, watch::Receiver<Arc<Mesh>>), OpenError> {
        // A change while it is being read must not go unnoticed.
        let presence = Presence::of(path);
        let (watcher, changes) = match watch_changes(path) {
            Ok(watched) => watched,
            Err(error) => {
                // A directory that is not there is better said so.
                Loaded::from_directory(path, Strictness::Strict)?;
                return Err(error);
            }
        };
        let loaded = Loaded::from_directory(path, Strictness::Strict)?;
        if !loaded.is_valid() {
            return Err(OpenError::Invalid(loaded.diagnostics));
        }
        for diagnostic in &loaded.diagnostics {
            tracing::warn!("{diagnostic}");
        }
        let fingerprint = fingerprint(&loaded);
        let (meshes, receiver) = watch::channel(Arc::new(loaded.mesh));
        Ok((Self { path: path.to_owned(), fingerprint, meshes, changes, _watcher: watcher, presence }, receiver))
    }

    /// Follows the directory and tells what became of each change, until every receiver is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the following; the last mesh stays with the receivers.
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
            let path = self.path.clone();
            let load = move || Loaded::from_directory(&path, Strictness::Strict);
            // Files may be slow, and other things share this thread.
            let Ok(loaded) = tokio::task::spawn_blocking(load).await else { return };
            // What was read while something was being written may be half of it.
            let is_whole = self.changes.is_empty() || settled == Settled::Overdue;
            if is_whole && let Some(reload) = self.take(loaded) {
                on_reload(&reload);
            }
        }
    }

    /// Turns to the directory that is at the path now, if any; returns when it has been quiet for a moment.
    async fn watch_again(&mut self, presence: Option<Presence>) -> Settled {
        self.presence = presence;
        if presence.is_some() {
            match watch_changes(&self.path) {
                Ok((watcher, changes)) => (self._watcher, self.changes) = (watcher, changes),
                // It may be gone again; the next look tells.
                Err(_) => self.presence = None,
            }
        }
        tokio::time::sleep(debounce::QUIET).await;
        Settled::Quiet
    }

    /// Puts a configuration in force if it is new and valid; `None` if nothing has changed.
    fn take(&mut self, loaded: Result<Loaded, LoadError>) -> Option<Reload> {
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let is_told = std::mem::replace(&mut self.fingerprint, UNREADABLE) == UNREADABLE;
                return (!is_told).then_some(Reload::Unreadable(error));
            }
        };
        let fingerprint = fingerprint(&loaded);
        if std::mem::replace(&mut self.fingerprint, fingerprint) == fingerprint {
            return None;
        }
        if !loaded.is_valid() {
            return Some(Reload::Rejected { diagnostics: loaded.diagnostics });
        }
        let version = self.meshes.borrow().version + 1;
        let mesh = Arc::new(loaded.mesh.with_version(version));
        self.meshes.send_replace(Arc::clone(&mesh));
        Some(Reload::Applied { mesh, diagnostics: loaded.diagnostics })
    }
}

/// Instead of a fingerprint, when there was nothing to read.
const UNREADABLE: u64 = 0;

/// Names and texts of all files, and which cannot be read, as one number, to notice that nothing has changed.
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
        // After an error it is better to look again.
        if event.is_ok_and(|event| !is_relevant(&event)) {
            return;
        }
        // A message that waits already says the same.
        let _ = sender.try_send(());
    };
    let mut watcher =
        notify::recommended_watcher(on_event).map_err(|source| OpenError::Watch { path: path.to_owned(), source })?;
    match watcher.watch(path, RecursiveMode::Recursive) {
        Ok(()) => Ok((watcher, receiver)),
        Err(source) => Err(OpenError::Watch { path: path.to_owned(), source }),
    }
}

/// Reading is an event, too, and other files may be in the directory. Hidden names count: Kubernetes replaces a mounted
/// ConfigMap by renaming one.
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
