//! Objects in memory, which a program or the client of a server puts there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{BoxFuture, ConfigSource, Contents, Unit};
use crate::diagnostic::Source;
use crate::load::LoadError;

/// Objects by name, each of which is accepted or refused on its own. A clone is a handle to the same objects: one belongs
/// to the [`Follower`](super::Follower), the others write.
///
/// ```
/// use mesh_control::source::Objects;
///
/// let objects = Objects::new();
/// objects.put("memory/a", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
/// objects.complete();
/// ```
#[derive(Clone, Debug)]
pub struct Objects {
    shared: Arc<Shared>,
    /// The state that was last read or reported as changed.
    seen: watch::Receiver<State>,
}

#[derive(Debug)]
struct Shared {
    documents: Mutex<BTreeMap<PathBuf, Arc<Source>>>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not everything is there yet.
    Incomplete,
    /// Everything is there.
    Complete,
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}

impl Objects {
    /// No objects. They are not read before [`Self::complete`] is called.
    #[must_use]
    pub fn new() -> Self {
        let (state, seen) = watch::channel(State::Incomplete);
        Self { shared: Arc::new(Shared { documents: Mutex::default(), state }), seen }
    }

    /// Adds an object, or replaces the one of this name. `name` is unique among all sources of a mesh, and is shown to users;
    /// `text` is YAML or JSON.
    pub fn put(&self, name: impl Into<PathBuf>, text: impl Into<String>) {
        self.change(|documents| {
            let (name, text) = (name.into(), text.into());
            if documents.get(&name).is_some_and(|known| known.text == text) {
                return false;
            }
            documents.insert(name.clone(), Arc::new(Source::new(name, text)));
            true
        });
    }

    /// Removes an object.
    pub fn remove(&self, name: impl AsRef<Path>) {
        self.change(|documents| documents.remove(name.as_ref()).is_some());
    }

    /// Replaces the objects whose names are below `folder` by others, whose names must be below it, too.
    pub fn replace(&self, folder: impl AsRef<Path>, others: impl IntoIterator<Item = (PathBuf, String)>) {
        self.change(|documents| {
            let mut others: BTreeMap<PathBuf, String> = others.into_iter().collect();
            let before = documents.len();
            documents.retain(|name, _| !name.starts_with(folder.as_ref()) || others.contains_key(name));
            let is_removed = documents.len() != before;
            others.retain(|name, text| documents.get(name).is_none_or(|known| known.text != *text));
            let is_changed = is_removed || !others.is_empty();
            let sources = others.into_iter().map(|(name, text)| (name.clone(), Arc::new(Source::new(name, text))));
            documents.extend(sources);
            is_changed
        });
    }

    /// All objects are there for the first time.
    pub fn complete(&self) {
        self.shared.state.send_replace(State::Complete);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, Arc<Source>>) -> bool) {
        let is_changed = change(&mut self.lock());
        if is_changed {
            self.shared.state.send_modify(|_| {});
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Source>>> {
        self.shared.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConfigSource for Objects {
    fn unit(&self) -> Unit {
        Unit::Document
    }

    fn read(&mut self) -> BoxFuture<'_, Result<Contents, LoadError>> {
        Box::pin(async {
            // The sender is in `shared`, so the wait cannot fail.
            let _ = self.seen.wait_for(|state| matches!(state, State::Complete)).await;
            self.seen.mark_unchanged();
            Ok(Contents::new(self.lock().values().cloned().collect()))
        })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _ = self.seen.changed().await;
        })
    }
}
