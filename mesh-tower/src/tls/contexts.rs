//! The contexts in use, shared by all workers.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use mesh_core::{
    cluster::ClusterState,
    model::{DownstreamTlsContext, UpstreamTlsContext},
    slot::{SecretSlot, Slot},
    store::Store,
};
use parking_lot::Mutex;

use super::{ClientTls, ServerTls, TlsError};

/// The servers' sides of the contexts of a store: its workers share the keys of session tickets.
#[derive(Debug, Default)]
pub(crate) struct ServerContexts(Mutex<HashMap<usize, KnownServer>>);

/// What was made of a configuration, as long as that is in use.
type KnownServer = (Weak<DownstreamTlsContext>, Arc<ServerTls>);

/// The clients' sides of the contexts of a cluster: workers share its sessions.
#[derive(Debug, Default)]
pub(crate) struct ClientContexts(Mutex<HashMap<usize, Arc<ClientTls>>>);

impl ServerContexts {
    /// The server's side of `context`.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(crate) fn get(store: &Store, context: &Arc<DownstreamTlsContext>) -> Result<Arc<ServerTls>, TlsError> {
        let attached = store.attachment().get_or_init(|| Arc::new(Self::default()));
        // Nothing else is attached to a store.
        let contexts: Arc<Self> = Arc::clone(attached).downcast().unwrap_or_default();
        let mut shared = contexts.0.lock();
        let address = Arc::as_ptr(context).addr();
        if let Some((known, made)) = shared.get(&address)
            && known.upgrade().is_some_and(|known| Arc::ptr_eq(&known, context))
        {
            return Ok(Arc::clone(made));
        }
        shared.retain(|_, (context, _)| context.strong_count() > 0);
        let made = Arc::new(ServerTls::new(context, store)?);
        shared.insert(address, (Arc::downgrade(context), Arc::clone(&made)));
        Ok(made)
    }
}

impl ClientContexts {
    /// The client's side of `context`, which is one of the cluster's transport sockets.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(crate) fn get(cluster: &ClusterState, context: &Arc<UpstreamTlsContext>) -> Result<Arc<ClientTls>, TlsError> {
        let attached = cluster.attachment().get_or_init(|| Arc::new(Self::default()));
        // Nothing else is attached to a cluster.
        let contexts: Arc<Self> = Arc::clone(attached).downcast().unwrap_or_default();
        // The configuration, which has the context, lives as long as the cluster and what is attached to it.
        let address = Arc::as_ptr(context).addr();
        let mut shared = contexts.0.lock();
        if let Some(made) = shared.get(&address) {
            return Ok(Arc::clone(made));
        }
        let mut own = UpstreamTlsContext::clone(context);
        own.auto_sni_san_validation |= cluster.config().http_protocol_options.auto_san_validation;
        let made = Arc::new(ClientTls::new(&own, |name| secret_slot(cluster, name))?);
        shared.insert(address, Arc::clone(&made));
        Ok(made)
    }
}

/// The slot of a secret. A cluster that does not belong to a store has none, and its secrets are never received.
fn secret_slot(cluster: &ClusterState, name: &Arc<str>) -> Arc<SecretSlot> {
    let known = cluster.secrets().iter().find(|slot| slot.name() == name);
    known.map_or_else(|| Arc::new(Slot::new(Arc::clone(name))), Arc::clone)
}
