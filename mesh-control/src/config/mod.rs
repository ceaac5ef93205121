//! Istio resources: read from files, checked, and kept as typed values that still know where they came from.
//!
//! Each resource is looked at alone here; what contradicts itself only among several is [`load`](crate::load)'s to find,
//! which is also the way in. Everything that is not understood is an error that names it: a mesh that silently ignored a
//! field, or worse a security policy, would do something else than its configuration says. Reading never stops at the
//! first mistake.

mod destination_rule;
mod gaps;
mod gateway;
mod metadata;
mod reader;
mod resource;
mod scalar;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload_entry;
mod yaml;

pub use destination_rule::{
    ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, Subset, TcpKeepalive, TrafficPolicy,
};
pub(crate) use gaps::Gaps;
pub use gateway::{Gateway, NamespaceScope, NamespacedHost, Server};
pub use metadata::{DEFAULT_NAMESPACE, Metadata};
pub use reader::Located;
pub(crate) use reader::nearest;
pub use scalar::{Labels, StringMatch, Visibility, selects};
pub use service_entry::{Location, Protocol, Resolution, ServiceEntry, ServicePort};
pub use sidecar::{EgressListener, IngressListener, ListenerPort, OutboundTrafficPolicy, Sidecar};
pub use virtual_service::{
    Abort, Delay, Destination, DirectResponse, Fault, FaultStatus, GatewayName, HeaderMatch, HeaderOperations, Headers,
    HttpAction, HttpMatch, HttpRoute, Redirect, RedirectPort, RetryPolicy, Rewrite, UriRewrite, VirtualService,
    WeightedDestination,
};
pub use workload_entry::{Workload, WorkloadEntry};
pub(crate) use yaml::MAX_FILE_BYTES;

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source};

/// What to do with what Istio has and this version has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Refuse it. The only choice for a configuration that is served.
    Strict,
    /// Leave it out with a warning, to compare the rest with another implementation.
    Lenient,
}

/// All resources of a mesh, each kind in the order in which Istio lets them compete: oldest first, then by name.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Routing of requests.
    pub virtual_services: Vec<VirtualService>,
    /// Subsets and policies of services.
    pub destination_rules: Vec<DestinationRule>,
    /// Services.
    pub service_entries: Vec<ServiceEntry>,
    /// Workloads that services select.
    pub workload_entries: Vec<WorkloadEntry>,
    /// Ports at the edge.
    pub gateways: Vec<Gateway>,
    /// Scopes and listeners of workloads.
    pub sidecars: Vec<Sidecar>,
}

impl Config {
    /// Number of resources of all kinds.
    pub fn len(&self) -> usize {
        self.virtual_services.len()
            + self.destination_rules.len()
            + self.service_entries.len()
            + self.workload_entries.len()
            + self.gateways.len()
            + self.sidecars.len()
    }

    /// Whether there is no resource at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn sort(&mut self) {
        fn by_age<T>(resources: &mut [T], metadata: impl Fn(&T) -> &Metadata) {
            let age = |metadata: &Metadata| {
                (metadata.creation_timestamp.clone(), metadata.name.clone(), metadata.namespace.clone())
            };
            resources.sort_by_cached_key(|resource| age(metadata(resource)));
        }
        by_age(&mut self.virtual_services, |resource| &resource.metadata);
        by_age(&mut self.destination_rules, |resource| &resource.metadata);
        by_age(&mut self.service_entries, |resource| &resource.metadata);
        by_age(&mut self.workload_entries, |resource| &resource.metadata);
        by_age(&mut self.gateways, |resource| &resource.metadata);
        by_age(&mut self.sidecars, |resource| &resource.metadata);
    }
}

/// What could be read of files, before anybody has looked at how the resources fit together.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) config: Config,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) gaps: Gaps,
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
