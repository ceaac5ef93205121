//! What is known about a connection when it is served.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mesh_core::{
    listener::ConnectionFacts,
    model::Metadata,
    telemetry::{Attributes, ResponseFlags},
    tls::TlsInfo,
};

/// What is known about a connection when it is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Downstream {
    /// Unique in this process.
    pub id: u64,
    /// What its filter chain was chosen by: addresses, and the result of inspecting the first bytes.
    pub facts: ConnectionFacts,
    /// The result of the TLS handshake; `None` = the connection is in plain text.
    pub tls: Option<Arc<TlsInfo>>,
    /// What network filters have found out, for access logs. Envoy dynamic metadata of a connection.
    pub dynamic_metadata: Option<Box<Metadata>>,
    /// Why a network filter has closed the connection; `None` = none has. Envoy `%CONNECTION_TERMINATION_DETAILS%`.
    pub connection_termination_details: Option<Box<str>>,
    /// The response flags and details of a connection that a network filter has closed; `None` = none has, or without.
    pub closed: Option<(ResponseFlags, &'static str)>,
}

impl Downstream {
    /// A connection in plain text.
    #[must_use]
    pub fn new(facts: ConnectionFacts) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            facts,
            tls: None,
            dynamic_metadata: None,
            connection_termination_details: None,
            closed: None,
        }
    }

    /// The client's address; `None` = it is not known.
    #[must_use]
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.facts.source
    }

    /// The address that the client has connected to; `None` = there is none.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.facts.destination
    }

    /// The address that the client has connected to, if the system has redirected the connection to this process.
    #[must_use]
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.facts.destination.filter(|_| self.facts.is_destination_restored)
    }

    /// The server name (SNI) that the client requests, also if TLS is passed through.
    #[must_use]
    pub fn requested_server_name(&self) -> Option<&Arc<str>> {
        self.tls.as_ref().and_then(|tls| tls.server_name.as_ref()).or(self.facts.server_name.as_ref())
    }

    /// Its attributes, for access logs and policies.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes {
            downstream_remote_address: self.facts.source,
            downstream_direct_remote_address: self.facts.direct_source,
            downstream_local_address: self.facts.destination,
            connection_id: Some(self.id),
            dynamic_metadata: self.dynamic_metadata.as_deref(),
            connection_termination_details: self.connection_termination_details.as_deref(),
            requested_server_name: self.requested_server_name().map(|name| &**name),
            downstream_tls: self.tls.as_deref(),
            ..Attributes::default()
        }
    }
}
