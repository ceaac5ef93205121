//! The queries: one for the names of services, and one for each service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use mesh_core::causes::with_causes;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::Client;
use super::document::{Instance, text};
use super::index::Index;
use crate::source::Objects;

/// Shortest time between two queries of one kind, in case that the agent does not block.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// Wait after the first failure; it doubles with each further one.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Keeps `objects` as the catalog is.
pub(super) async fn run(client: Client, objects: Objects) {
    let mut catalog = Query::new(client.clone(), "/v1/catalog/services".to_owned());
    let mut services: BTreeMap<String, JoinSet<()>> = BTreeMap::new();
    let (sender, mut known) = mpsc::channel::<String>(16);
    // Services of the first answer that have not been read yet.
    let mut missing: Option<BTreeSet<String>> = None;
    loop {
        tokio::select! {
            names = catalog.next::<BTreeMap<String, IgnoredAny>>() => {
                services.retain(|name, _| {
                    let is_there = names.contains_key(name);
                    if !is_there {
                        objects.remove(path(name));
                        forget(&mut missing, name);
                    }
                    is_there
                });
                let new: Vec<_> = names.into_keys().filter(|name| !services.contains_key(name)).collect();
                missing.get_or_insert_with(|| new.iter().cloned().collect());
                for name in new {
                    let mut task = JoinSet::new();
                    task.spawn(follow(client.clone(), name.clone(), objects.clone(), sender.clone()));
                    services.insert(name, task);
                }
            }
            Some(name) = known.recv() => forget(&mut missing, &name),
        }
        if missing.as_ref().is_some_and(BTreeSet::is_empty) {
            objects.complete();
        }
    }
}

/// Waits for the service no longer.
fn forget(missing: &mut Option<BTreeSet<String>>, name: &str) {
    if let Some(missing) = missing {
        missing.remove(name);
    }
}

/// Keeps one service as it is, and reports when it is there.
async fn follow(client: Client, name: String, objects: Objects, known: mpsc::Sender<String>) {
    let namespace = client.options.namespace.clone();
    let mut query = Query::new(client, format!("/v1/health/service/{name}"));
    loop {
        let instances: Vec<Instance> = query.next().await;
        match text(&name, &namespace, &instances) {
            Some(text) => objects.put(path(&name), text),
            None => objects.remove(path(&name)),
        }
        if known.send(name.clone()).await.is_err() {
            return;
        }
    }
}

fn path(service: &str) -> PathBuf {
    PathBuf::from("consul").join(service)
}

/// A blocking query that is repeated.
struct Query {
    client: Client,
    path: String,
    index: Index,
    not_before: Instant,
    backoff: Duration,
}

impl Query {
    fn new(client: Client, path: String) -> Self {
        Self { client, path, index: Index::default(), not_before: Instant::now(), backoff: MIN_BACKOFF }
    }

    /// Waits for an answer that may be another one than the last.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change: an answer is either yielded, or asked for again.
    async fn next<T: DeserializeOwned>(&mut self) -> T {
        loop {
            sleep_until(self.not_before).await;
            self.not_before = Instant::now() + MIN_INTERVAL;
            match self.client.query(&self.path, self.index).await {
                Ok((answer, index)) => {
                    self.backoff = MIN_BACKOFF;
                    if self.index.handle_answer(index) {
                        return answer;
                    }
                }
                Err(error) => {
                    let wait = self.backoff;
                    tracing::warn!("Consul: {}: {}; the next try is in {wait:?}", self.path, with_causes(&error));
                    self.index.handle_failure();
                    self.backoff = (wait * 2).min(MAX_BACKOFF);
                    sleep(wait).await;
                }
            }
        }
    }
}
