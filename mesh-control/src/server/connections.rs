//! The streams that are open, for operators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mesh_xds::resource::ResourceType;

use super::Form;
use super::snapshot::ClientView;

/// What a client has of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// Nonce of the last response; 0 before the first.
    pub sent: u64,
    /// Nonce of the last response that the client has accepted; 0 before the first.
    pub acked: u64,
    /// Why the client has refused the last response, if it has.
    pub rejected: Option<String>,
}

/// An open stream.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The id of the node.
    pub node_id: String,
    /// What the client has proved to be; empty if nothing.
    pub identities: Vec<String>,
    /// Since when it is open.
    pub since: SystemTime,
    /// The form of the protocol.
    pub form: Form,
    /// By type.
    pub types: [TypeStatus; ResourceType::ALL.len()],
    pub(super) view: ClientView,
}

/// The streams that are open, and what was sent on all of them.
#[derive(Debug, Default)]
pub struct Connections(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Connection>,
    pushes: [u64; ResourceType::ALL.len()],
}

impl Connections {
    /// A copy of all.
    #[must_use]
    pub fn open(&self) -> Vec<Connection> {
        self.lock().open.values().cloned().collect()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The responses of a type that were sent. Istio `pilot_xds_pushes`.
    #[must_use]
    pub fn pushes(&self, kind: ResourceType) -> u64 {
        self.lock().pushes[kind as usize]
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one stream among them, removed with the value.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
}

impl Place {
    pub(super) fn new(connections: &Arc<Connections>) -> Self {
        let mut state = connections.lock();
        state.next += 1;
        Self { connections: Arc::clone(connections), number: state.next }
    }

    pub(super) fn put(&self, connection: Connection) {
        self.connections.lock().open.insert(self.number, connection);
    }

    pub(super) fn count(&self, kind: ResourceType) {
        self.connections.lock().pushes[kind as usize] += 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
    }
}
