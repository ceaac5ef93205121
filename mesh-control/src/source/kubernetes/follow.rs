//! One watch for each kind.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use mesh_core::causes::with_causes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::document;
use super::kinds::{self, Served, Watched, discover};
use crate::source::Objects;

/// Time between two looks for a kind that the server does not have.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Time between two tries to learn which kinds the server has.
const RETRY: Duration = Duration::from_secs(2);

/// Begins to follow all kinds; the future ends when everything that the server has is in `objects`.
pub(super) fn spawn(
    client: &Client,
    namespace: Option<&str>,
    objects: &Objects,
    tasks: &mut JoinSet<()>,
) -> impl Future<Output = ()> + use<> {
    let (sender, mut complete) = mpsc::channel::<()>(1);
    for watched in kinds::all() {
        let kind = Following {
            client: client.clone(),
            watched,
            namespace: namespace.map(str::to_owned),
            objects: objects.clone(),
            incomplete: Some(sender.clone()),
        };
        tasks.spawn(kind.run());
    }
    // It yields nothing: each kind drops its sender when it is complete.
    async move { while complete.recv().await.is_some() {} }
}

/// A kind that is followed.
struct Following {
    client: Client,
    watched: Watched,
    namespace: Option<String>,
    objects: Objects,
    /// Dropped when the first list is complete.
    incomplete: Option<mpsc::Sender<()>>,
}

impl Following {
    async fn run(mut self) {
        loop {
            match discover(&self.client, self.watched).await {
                Ok(Some(served)) => self.follow(&served).await,
                Ok(None) => {
                    self.objects.replace(self.folder(), []);
                    self.incomplete = None;
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) => {
                    tracing::warn!("cannot ask the API server for {}: {}", self.watched.kind, with_causes(&error));
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Follows the kind until the server does not have it any more.
    async fn follow(&mut self, served: &Served) {
        let mut config = watcher::Config::default();
        let namespace = match self.watched.only {
            Some((namespace, name)) => {
                config = config.fields(&format!("metadata.name={name}"));
                Some(namespace)
            }
            None => self.namespace.as_deref(),
        };
        let api: Api<DynamicObject> = match namespace.filter(|_| served.is_namespaced) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &served.resource),
            None => Api::all_with(self.client.clone(), &served.resource),
        };
        let mut events = pin!(watcher(api, config).default_backoff());
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => listed.extend(self.document(&object, served)),
                Ok(watcher::Event::InitDone) => {
                    self.objects.replace(self.folder(), std::mem::take(&mut listed));
                    self.incomplete = None;
                }
                Ok(watcher::Event::Apply(object)) => match self.document(&object, served) {
                    Some((name, text)) => self.objects.put(name, text),
                    None => self.objects.remove(self.name(&object)),
                },
                Ok(watcher::Event::Delete(object)) => self.objects.remove(self.name(&object)),
                Err(error) => {
                    tracing::warn!("cannot watch {}: {}", self.watched.kind, with_causes(&error));
                    if is_gone(&error) {
                        return sleep(RETRY).await;
                    }
                }
            }
        }
    }

    fn document(&self, object: &DynamicObject, served: &Served) -> Option<(PathBuf, String)> {
        let text = document::text(object, &served.resource.api_version, self.watched.kind)?;
        Some((self.name(object), text))
    }

    /// As `kubernetes/gateway.networking.k8s.io/HTTPRoute/NAMESPACE/NAME`.
    fn name(&self, object: &DynamicObject) -> PathBuf {
        let folder = self.folder();
        let folder = object.namespace().map_or_else(|| folder.clone(), |namespace| folder.join(namespace));
        folder.join(object.name_any())
    }

    fn folder(&self) -> PathBuf {
        let group = if self.watched.group.is_empty() { "core" } else { self.watched.group };
        PathBuf::from("kubernetes").join(group).join(self.watched.kind)
    }
}

/// Whether the server does not have the kind, for example after its CustomResourceDefinition was deleted.
fn is_gone(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
