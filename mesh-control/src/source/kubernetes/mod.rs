//! The API server of Kubernetes.
//!
//! ```text
//! API server ─► one watch for each kind ─► Objects ─► Follower ─► Mesh
//!      ▲                                                  │ verdict
//!      └────────── status, by the leader ◄────────────────┘
//! ```
//!
//! A kind that the server does not have, because its CustomResourceDefinition is not installed, is looked for again
//! later. A watch that breaks begins again from where it was, or with a new list, after a wait that grows (`kube`); meanwhile
//! what was known stays in force.
//!
//! Objects are kept as the JSON that a file could have, without the fields that change and mean nothing here (`document`), so that
//! a heartbeat of a node is no change of the mesh. The status of resources of Gateway API is written back (`status`). Of several
//! replicas, only the one that holds the Lease [`LEASE`] writes (`lease`).
//!
//! The account needs the verbs `list` and `watch` for all kinds that are read, `patch` for the `status` of those of Gateway API,
//! and `get`, `create` and `update` for Leases.

mod document;
mod follow;
mod kinds;
mod lease;
mod status;

use std::path::PathBuf;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{BoxFuture, ConfigSource, Contents, Objects, Unit, Verdict};
use crate::gateway_api::Statuses;
use crate::load::LoadError;

/// Name of the Lease that the writer of status holds.
pub const LEASE: &str = "mesh-control-status";

/// Which server, and what is read and written there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KubernetesOptions {
    /// A kubeconfig file. Default: the account of the Pod, or else the file that `KUBECONFIG` names, or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; default its current one.
    pub context: Option<String>,
    /// The only namespace whose objects are read; default all.
    pub namespace: Option<String>,
    /// Whether the status of resources is written. Default true.
    pub writes_status: bool,
    /// Namespace of the Lease. Default `istio-system`.
    pub lease_namespace: String,
    /// The name of this process among its replicas. Default: `HOSTNAME`, which is the name of the Pod, and the process id.
    pub identity: String,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "mesh-control".to_owned());
        Self {
            kubeconfig: None,
            context: None,
            namespace: None,
            writes_status: true,
            lease_namespace: "istio-system".to_owned(),
            identity: format!("{host}_{}", std::process::id()),
        }
    }
}

/// The API server cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the API server of Kubernetes")]
pub struct ConnectError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// The API server of Kubernetes, which is followed until the value is dropped.
#[derive(Debug)]
pub struct Kubernetes {
    objects: Objects,
    statuses: watch::Sender<Statuses>,
    /// The watches and the writer of status.
    _tasks: JoinSet<()>,
}

impl Kubernetes {
    /// Begins to follow the server. That it is there is not needed yet: [`ConfigSource::read`] waits for it.
    ///
    /// # Errors
    ///
    /// If the server is not known, or its certificates or those of the account cannot be used.
    pub async fn connect(options: KubernetesOptions) -> Result<Self, ConnectError> {
        let client = client(&options).await.map_err(ConnectError)?;
        let (objects, mut tasks) = (Objects::new(), JoinSet::new());
        let complete = follow::spawn(&client, options.namespace.as_deref(), &objects, &mut tasks);
        let whole = objects.clone();
        tasks.spawn(async move {
            complete.await;
            whole.complete();
        });
        let (statuses, receiver) = watch::channel(Statuses::default());
        if options.writes_status {
            let lease = lease::spawn(&client, &options, &mut tasks);
            tasks.spawn(status::write(client, receiver, lease));
        }
        Ok(Self { objects, statuses, _tasks: tasks })
    }
}

async fn client(options: &KubernetesOptions) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let context = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let config = match &options.kubeconfig {
        Some(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || Kubeconfig::read_from(path)).await??;
            kube::Config::from_custom_kubeconfig(read, &context).await?
        }
        None if options.context.is_some() => kube::Config::from_kubeconfig(&context).await?,
        None => kube::Config::infer().await?,
    };
    Ok(Client::try_from(config)?)
}

impl ConfigSource for Kubernetes {
    fn unit(&self) -> Unit {
        Unit::Document
    }

    fn read(&mut self) -> BoxFuture<'_, Result<Contents, LoadError>> {
        self.objects.read()
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        self.objects.changed()
    }

    fn handle_verdict(&mut self, verdict: &Verdict<'_>) {
        if !verdict.loaded.is_valid() {
            return;
        }
        let new = &verdict.loaded.mesh.gateway_api.statuses;
        self.statuses.send_if_modified(|statuses| {
            let is_changed = statuses != new;
            if is_changed {
                statuses.clone_from(new);
            }
            is_changed
        });
    }
}
