//! Istio resources: read from files, checked one by one, and kept as typed values with their positions.
//!
//! Contradictions between resources are found by [`load`](crate::load), which is also the entry point. An unknown field
//! is an error that names it: a mesh that ignored a field, or worse a security policy, would behave differently from
//! its configuration. Reading does not stop at the first mistake.
//!
//! `kind` has the table of kinds. A kind has a module here, with its type and its reader; fields that several kinds share
//! are in `scalar`, `namespaced_host` and `port`.

mod completeness;
mod destination_rule;
mod gateway;
mod kind;
mod metadata;
mod namespaced_host;
mod port;
mod resource;
mod scalar;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload_entry;

pub(crate) use completeness::Completeness;
pub use destination_rule::{
    ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, Subset, TcpKeepalive, TrafficPolicy,
};
pub use gateway::{Gateway, Server, ServerMode};
pub(crate) use kind::for_each_kind;
pub use kind::{Config, Kind};
pub use metadata::{DEFAULT_NAMESPACE, Metadata};
pub use namespaced_host::{NamespaceScope, NamespacedHost};
pub use port::Protocol;
pub use scalar::{Labels, StringMatch, Visibility, selects};
pub use service_entry::{Location, Resolution, ServiceEntry, ServicePort};
pub use sidecar::{EgressListener, IngressListener, ListenerPort, OutboundTrafficPolicy, Sidecar};
pub use virtual_service::{
    Abort, CorsPolicy, Delay, Destination, DirectResponse, Fault, FaultStatus, GatewayName, HeaderMatch,
    HeaderOperations, Headers, HttpAction, HttpMatch, HttpRoute, ListenerMatch, Redirect, RedirectPort, RetryPolicy,
    Rewrite, RouteDestination, SniHost, TcpMatch, TcpRoute, TlsMatch, TlsRoute, UnmatchedPreflights, UriRewrite,
    VirtualService, WeightedDestination,
};
pub use workload_entry::{Workload, WorkloadEntry};

pub use crate::document::{Located, Strictness};

use kind::Resource;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source};

/// The resources of files, each of which has been checked on its own.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) config: Config,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) completeness: Completeness,
}

/// Reads the resources of all files.
pub(crate) fn read(sources: &[Arc<Source>], strictness: Strictness) -> Read {
    let mut reader = resource::Reader::new(strictness);
    for source in sources {
        reader.read(source);
    }
    let mut read = reader.finish();
    read.config.sort();
    read
}
