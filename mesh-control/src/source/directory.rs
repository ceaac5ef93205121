//! A directory of files.
//!
//! The operating system reports changes of the directory that was opened, not of its path. A directory that replaces
//! it, because it was deleted and created again or because a symbolic link has changed, is detected by a check once a
//! second.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::presence::Presence;
use super::{BoxFuture, ConfigSource, Contents, Follower, OpenError, Unit};
use crate::config::Options;
use crate::load::{LoadError, is_config_file, read_directory};
use crate::mesh::Mesh;

/// Time between two checks whether the directory is still the same.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A directory of `*.yaml`, `*.yml` and `*.json` files, which are accepted or refused together.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    changes: mpsc::Receiver<()>,
    /// Reports changes of the directory that is at `presence`, as long as it lives.
    _watcher: RecommendedWatcher,
    presence: Option<Presence>,
    /// The next check; made when it is first awaited, because it needs a runtime.
    checks: Option<Interval>,
}

impl Directory {
    /// Watches the directory, whose files are read later.
    ///
    /// # Errors
    ///
    /// If the directory does not exist, or cannot be read or watched.
    pub fn watch(path: &Path) -> Result<Self, OpenError> {
        let presence = Presence::of(path);
        let (watcher, changes) = match watch_changes(path) {
            Ok(watched) => watched,
            Err(error) => {
                // If the directory does not exist, that is the better message.
                read_contents(path)?;
                return Err(error);
            }
        };
        Ok(Self { path: path.to_owned(), changes, _watcher: watcher, presence, checks: None })
    }

    /// Follows the directory as the only source of a mesh: reads it for the first time; the receiver yields this mesh and
    /// those that follow. Warnings are logged.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read or watched, or its configuration has errors.
    pub fn open(path: &Path, options: impl Into<Options>) -> Result<(Follower, watch::Receiver<Arc<Mesh>>), OpenError> {
        // The watch begins first, so that no change during reading is missed.
        let directory = Self::watch(path)?;
        let contents = read_contents(path)?;
        Follower::start(vec![(Box::new(directory), contents)], options.into())
    }

    /// Watches the directory that is at the path now, if any.
    fn watch_again(&mut self, presence: Option<Presence>) {
        self.presence = presence;
        if presence.is_some() {
            match watch_changes(&self.path) {
                Ok((watcher, changes)) => (self._watcher, self.changes) = (watcher, changes),
                // It may have been deleted again; the next check detects it.
                Err(_) => self.presence = None,
            }
        }
    }

    /// Waits until another directory is at the path, or none.
    async fn replaced(path: &Path, known: Option<Presence>, checks: &mut Option<Interval>) -> Option<Presence> {
        let checks = checks.get_or_insert_with(|| {
            let mut checks = interval(CHECK_INTERVAL);
            checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            checks
        });
        loop {
            checks.tick().await;
            let path = path.to_owned();
            // File systems may be slow, and other tasks share this thread.
            if let Ok(found) = tokio::task::spawn_blocking(move || Presence::of(&path)).await
                && found != known
            {
                return found;
            }
        }
    }
}

impl ConfigSource for Directory {
    fn unit(&self) -> Unit {
        Unit::Source
    }

    fn read(&mut self) -> BoxFuture<'_, Result<Contents, LoadError>> {
        let path = self.path.clone();
        Box::pin(async move {
            let read = {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read_contents(&path)).await
            };
            // The task can only fail if the runtime ends, and then nobody waits for the contents.
            read.unwrap_or_else(|error| Err(LoadError::new(path, std::io::Error::other(error))))
        })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let presence = tokio::select! {
                Some(()) = self.changes.recv() => return,
                presence = Self::replaced(&self.path, self.presence, &mut self.checks) => presence,
            };
            self.watch_again(presence);
        })
    }
}

fn read_contents(path: &Path) -> Result<Contents, LoadError> {
    let (documents, diagnostics) = read_directory(path)?;
    Ok(Contents { documents, diagnostics })
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
