//! Keeping a mesh as its source says.
//!
//! ```text
//! directory ─► translation, ADS server ─► in-process stream ─► ADS client ─► store
//! ```
//!
//! It is the way of a remote control plane within one process. Every part ends when the one behind it does, and the
//! client ends when nobody uses the mesh any more.

use std::{
    hash::{BuildHasher as _, RandomState},
    path::Path,
    sync::Arc,
    time::Duration,
};

use mesh_admin::Translation;
use mesh_control::{mesh::Mesh as Source, server, source::Directory, translate::Node};
use mesh_core::{rng::SplitMix64, store::Store};
use mesh_tower::dns::DnsDiscovery;
use mesh_xds::client::{self, ClusterInterest, Interest, Notice, Options, applier::StoreSink, transport::in_process};
use tokio::{
    sync::{broadcast, watch},
    time::timeout,
};

use crate::{
    ConfigEvent,
    error::{Error, Kind},
    event::Applied,
};

/// How long the first configuration may take to come into force.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A directory that has been read once.
#[derive(Debug)]
pub(crate) struct Opened {
    directory: Directory,
    sources: watch::Receiver<Arc<Source>>,
}

/// What is kept in step with the source.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) store: Arc<Store>,
    /// Closed when nobody uses the mesh any more.
    pub(crate) in_use: watch::Sender<()>,
    pub(crate) _dns: DnsDiscovery,
    pub(crate) events: broadcast::Sender<ConfigEvent>,
}

impl Opened {
    pub(crate) fn new(dir: &Path) -> Result<Self, Error> {
        let opened = Directory::open(dir);
        let (directory, sources) = opened.map_err(|source| Kind::Config { path: dir.to_owned(), source })?;
        Ok(Self { directory, sources })
    }

    /// `node` with the labels that its endpoints have, if it has none of its own.
    pub(crate) fn with_labels(&self, node: Node) -> Node {
        node.with_labels(&self.sources.borrow().registry)
    }

    /// What the directory means for `node`, at any moment.
    pub(crate) fn translation(&self, node: Node) -> Translation {
        Translation::new(self.sources.clone(), node)
    }

    /// Keeps `in_force` as the directory says; returns when it is so for the first time.
    pub(crate) async fn follow(self, node: &Node, in_force: InForce) -> Result<(), Error> {
        let events = in_force.events.clone();
        tokio::spawn(self.directory.run(move |reload| tell(&events, reload.into())));
        let (transport, acceptor) = in_process::pair();
        tokio::spawn(server::serve(acceptor, self.sources));

        let (settled, mut first) = watch::channel(false);
        let options =
            Options { node: node.to_xds(), listeners: Interest::Everything, clusters: ClusterInterest::Everything };
        tokio::spawn(async move {
            let mut applied = Applied::default();
            let on_notice = |notice: Notice| match notice {
                Notice::Settled => {
                    in_force.settle(std::mem::take(&mut applied));
                    settled.send_replace(true);
                }
                notice => applied.note(notice),
            };
            let sink = StoreSink::new(Arc::clone(&in_force.store), rng(), on_notice);
            tokio::select! {
                () = client::run(transport, options, sink) => {}
                () = in_force.in_use.closed() => {}
            }
        });
        match timeout(START_LIMIT, first.wait_for(|settled| *settled)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Kind::NotInForce { limit: START_LIMIT }.into()),
        }
    }
}

impl InForce {
    /// For a configuration that never changes: addresses of names still do.
    pub(crate) fn keep(self) {
        tokio::spawn(async move { self.in_use.closed().await });
    }

    /// Everything that was said is in force now.
    fn settle(&self, applied: Applied) {
        if !applied.is_empty() {
            tell(&self.events, ConfigEvent::Applied(applied));
        }
    }
}

fn tell(events: &broadcast::Sender<ConfigEvent>, event: ConfigEvent) {
    // If nobody listens there is nobody to tell.
    drop(events.send(event));
}

/// Chance for load balancing and jitter; nothing secret.
pub(crate) fn rng() -> SplitMix64 {
    SplitMix64::new(RandomState::new().hash_one(()))
}
