//! Joins sources to a mesh, and follows them.

use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use mesh_xds::status::SourceStatus;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::admission::{Admission, Admitted};
use super::debounce::Debounce;
use super::reload::{tell_of, warn_of};
use super::{ConfigSource, Contents, OpenError, Reload, Unit, Verdict, outcome};
use crate::config::Options;
use crate::diagnostic::Diagnostic;
use crate::load::{LoadError, Loaded};
use crate::mesh::Mesh;

/// Sources that are followed while [`Follower::run`] is polled.
#[derive(Debug)]
pub struct Follower {
    sources: Vec<Followed>,
    options: Options,
    admission: Admission,
    debounce: Debounce,
    /// Of everything that the sources have, accepted or not.
    fingerprint: u64,
    /// Of what is in force.
    in_force: u64,
    meshes: watch::Sender<Arc<Mesh>>,
    status: Arc<SourceStatus>,
}

#[derive(Debug)]
struct Followed {
    source: Box<dyn ConfigSource>,
    /// What it had when it was last readable.
    contents: Contents,
    is_changed: bool,
    is_unreadable: bool,
}

impl Follower {
    /// Waits until each source has everything, and joins them; the receiver yields this mesh and those that follow. Of
    /// resources that are declared twice, the one in the earlier source counts. Warnings are logged.
    ///
    /// # Errors
    ///
    /// If a source cannot be read, or what must be accepted as a whole has errors.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the sources.
    pub async fn open(
        sources: Vec<Box<dyn ConfigSource>>,
        options: impl Into<Options>,
    ) -> Result<(Self, watch::Receiver<Arc<Mesh>>), OpenError> {
        let mut opened = Vec::new();
        for mut source in sources {
            let contents = source.read().await?;
            opened.push((source, contents));
        }
        Self::start(opened, options.into())
    }

    /// Joins sources that have been read.
    pub(super) fn start(
        sources: Vec<(Box<dyn ConfigSource>, Contents)>,
        options: Options,
    ) -> Result<(Self, watch::Receiver<Arc<Mesh>>), OpenError> {
        let mut sources: Vec<Followed> = sources
            .into_iter()
            .map(|(source, contents)| Followed { source, contents, is_changed: false, is_unreadable: false })
            .collect();
        let mut admission = Admission::default();
        let Admitted { loaded, refused } = admission.load(&contents(&sources), &options);
        tell(&mut sources, &loaded, &refused);
        if !loaded.is_valid() {
            return Err(OpenError::Invalid(loaded.diagnostics));
        }
        warn_of(&loaded.diagnostics);
        warn_of(&refused);
        tell_of(&loaded.left_alone);
        let status = Arc::new(SourceStatus::default());
        outcome::count(&status, &loaded, &refused);
        let now = SystemTime::now();
        status.accept(now);
        if !refused.is_empty() {
            outcome::refuse(&status, &refused, 1, now);
        }
        let (fingerprint, in_force) = (fingerprint(&sources), fingerprint_of(&loaded));
        let (meshes, receiver) = watch::channel(Arc::new(loaded.mesh));
        let debounce = Debounce::default();
        Ok((Self { sources, options, admission, debounce, fingerprint, in_force, meshes, status }, receiver))
    }

    /// What becomes of the changes of the sources, for operators.
    #[must_use]
    pub fn status(&self) -> Arc<SourceStatus> {
        Arc::clone(&self.status)
    }

    /// Follows the sources, logs the outcome of each change and passes it to `on_reload`, until every receiver has been
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it; the receivers keep the last mesh.
    pub async fn run(mut self, mut on_reload: impl FnMut(&Reload)) {
        loop {
            tokio::select! {
                () = self.meshes.closed() => return,
                index = any_change(&mut self.sources) => {
                    self.sources[index].is_changed = true;
                    self.debounce.handle_change(Instant::now());
                }
                () = due(&self.debounce) => {
                    if !self.reload(&mut on_reload).await {
                        return;
                    }
                }
            }
        }
    }

    /// Reads and applies what has changed; false if the runtime ends.
    async fn reload(&mut self, on_reload: &mut impl FnMut(&Reload)) -> bool {
        let is_overdue = self.debounce.is_overdue(Instant::now());
        for index in 0..self.sources.len() {
            if !self.sources[index].is_changed {
                continue;
            }
            let followed = &mut self.sources[index];
            followed.is_changed = false;
            match followed.source.read().await {
                Ok(contents) => (followed.contents, followed.is_unreadable) = (contents, false),
                Err(error) => self.lose(index, error, on_reload),
            }
        }
        // What has changed while it was read may be half of a change.
        if let Some(index) = change_now(&mut self.sources).await
            && !is_overdue
        {
            self.sources[index].is_changed = true;
            self.debounce.handle_change(Instant::now());
            return true;
        }
        self.debounce.handle_read();
        let fingerprint = fingerprint(&self.sources);
        if std::mem::replace(&mut self.fingerprint, fingerprint) == fingerprint {
            return true;
        }
        let (contents, options) = (contents(&self.sources), self.options.clone());
        let mut admission = std::mem::take(&mut self.admission);
        let load = move || (admission.load(&contents, &options), admission);
        // Loading takes a while, and other tasks share this thread.
        let Ok((admitted, admission)) = tokio::task::spawn_blocking(load).await else { return false };
        self.admission = admission;
        if let Some(reload) = self.take(admitted) {
            reload.log();
            on_reload(&reload);
        }
        true
    }

    /// A source cannot be read any more; what it had stays.
    fn lose(&mut self, index: usize, error: LoadError, on_reload: &mut impl FnMut(&Reload)) {
        let (version, now) = (self.meshes.borrow().version + 1, SystemTime::now());
        outcome::unreadable(&self.status, &error, version, now);
        if !std::mem::replace(&mut self.sources[index].is_unreadable, true) {
            let reload = Reload::Unreadable(error);
            reload.log();
            on_reload(&reload);
        }
    }

    /// Puts a configuration in force, as far as it is valid; `None` if all that has changed is that a source was lost.
    fn take(&mut self, admitted: Admitted) -> Option<Reload> {
        let Admitted { loaded, refused } = admitted;
        let (version, now) = (self.meshes.borrow().version + 1, SystemTime::now());
        outcome::count(&self.status, &loaded, &refused);
        tell(&mut self.sources, &loaded, &refused);
        if !loaded.is_valid() {
            outcome::refuse(&self.status, &loaded.diagnostics, version, now);
            return Some(Reload::Rejected { diagnostics: loaded.diagnostics });
        }
        let in_force = fingerprint_of(&loaded);
        let is_unchanged = std::mem::replace(&mut self.in_force, in_force) == in_force;
        if is_unchanged && !refused.is_empty() {
            outcome::refuse(&self.status, &refused, version, now);
            return Some(Reload::Rejected { diagnostics: refused });
        }
        let is_lost = self.sources.iter().any(|followed| followed.is_unreadable);
        if is_unchanged && is_lost {
            return None;
        }
        if !is_lost {
            self.status.accept(now);
        }
        if !refused.is_empty() {
            outcome::refuse(&self.status, &refused, version, now);
        }
        let mesh = Arc::new(loaded.mesh.with_version(version));
        self.meshes.send_replace(Arc::clone(&mesh));
        let diagnostics = refused.into_iter().chain(loaded.diagnostics).collect();
        Some(Reload::Applied { mesh, diagnostics })
    }
}

/// Waits for a change of any source, and returns its index.
async fn any_change(sources: &mut [Followed]) -> usize {
    let mut changes: Vec<_> = sources.iter_mut().map(|followed| followed.source.changed()).collect();
    poll_fn(|cx| {
        let ready = changes.iter_mut().position(|change| change.as_mut().poll(cx).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// The index of a source that has changed already.
async fn change_now(sources: &mut [Followed]) -> Option<usize> {
    let mut changes: Vec<_> = sources.iter_mut().map(|followed| followed.source.changed()).collect();
    poll_fn(|cx| Poll::Ready(changes.iter_mut().position(|change| change.as_mut().poll(cx).is_ready()))).await
}

/// Waits until changes are to be read; forever if there are none.
async fn due(debounce: &Debounce) {
    match debounce.poll_timeout() {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn contents(sources: &[Followed]) -> Vec<(Unit, Contents)> {
    sources.iter().map(|followed| (followed.source.unit(), followed.contents.clone())).collect()
}

fn tell(sources: &mut [Followed], loaded: &Loaded, refused: &[Diagnostic]) {
    for followed in sources {
        followed.source.handle_verdict(&Verdict { loaded, refused });
    }
}

/// A hash of the names and contents of all documents, and of those that cannot be read, to notice that nothing has changed.
fn fingerprint(sources: &[Followed]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for Followed { contents: Contents { documents, diagnostics }, is_unreadable, .. } in sources {
        is_unreadable.hash(&mut hasher);
        for document in documents {
            (&document.path, &document.text).hash(&mut hasher);
        }
        for diagnostic in diagnostics {
            diagnostic.to_string().hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The same for what is in force.
fn fingerprint_of(loaded: &Loaded) -> u64 {
    let mut hasher = DefaultHasher::new();
    for source in &loaded.sources {
        (&source.path, &source.text).hash(&mut hasher);
    }
    hasher.finish()
}
