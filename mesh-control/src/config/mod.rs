//! Istio resources: read from files, checked, and kept as typed values that still know where they came from.
//!
//! [`Loaded::from_directory`] is the way in. Everything that is not understood is an error that names it: a mesh that
//! silently ignored a field, or worse a security policy, would do something else than its configuration says.
//! Reading never stops at the first mistake; all of a run are in [`Loaded::diagnostics`].

mod destination_rule;
mod directory;
mod gaps;
mod gateway;
mod metadata;
mod reader;
mod resource;
mod scalar;
mod service_entry;
mod sidecar;
mod validate;
mod virtual_service;
mod workload_entry;
mod yaml;

pub use destination_rule::{
    ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, Subset, TcpKeepalive, TrafficPolicy,
};
pub use directory::LoadError;
pub(crate) use directory::is_config_file;
pub use gateway::{Gateway, NamespaceScope, NamespacedHost, Server};
pub use metadata::{DEFAULT_NAMESPACE, Metadata};
pub use reader::Located;
pub use scalar::{Labels, StringMatch, Visibility, selects};
pub use service_entry::{Location, Protocol, Resolution, ServiceEntry, ServicePort};
pub use sidecar::{EgressListener, IngressListener, ListenerPort, OutboundTrafficPolicy, Sidecar};
pub use virtual_service::{
    Abort, Delay, Destination, DirectResponse, Fault, FaultStatus, GatewayName, HeaderMatch, HeaderOperations, Headers,
    HttpAction, HttpMatch, HttpRoute, Redirect, RedirectPort, RetryPolicy, Rewrite, UriRewrite, VirtualService,
    WeightedDestination,
};
pub use workload_entry::{Workload, WorkloadEntry};

use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity, Source};

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

/// The outcome of reading a configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What could be read; complete and consistent only if [`Loaded::is_valid`].
    pub config: Config,
    /// All that is wrong or doubtful, sorted by file, line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// The files, in the order in which they were read.
    pub sources: Vec<Arc<Source>>,
}

impl Loaded {
    /// Reads all `*.yaml`, `*.yml` and `*.json` files below the directory; hidden files and folders are skipped.
    ///
    /// # Errors
    ///
    /// If the directory or a folder in it cannot be listed. A file that cannot be read is a diagnostic.
    pub fn from_directory(directory: &Path, strictness: Strictness) -> Result<Self, LoadError> {
        let (sources, unreadable) = directory::read(directory)?;
        Ok(Self::check(sources, unreadable, strictness))
    }

    /// Reads files that are already in memory.
    pub fn from_sources(sources: Vec<Arc<Source>>, strictness: Strictness) -> Self {
        Self::check(sources, Vec::new(), strictness)
    }

    /// Reads `sources`; the files that `unreadable` is about are there, too.
    fn check(sources: Vec<Arc<Source>>, unreadable: Vec<Diagnostic>, strictness: Strictness) -> Self {
        let mut reader = resource::Reader::new(strictness, unreadable);
        for source in &sources {
            reader.read(source);
        }
        let resource::Reader { mut config, mut diagnostics, gaps, .. } = reader;
        config.sort();
        // What was read in part may look doubtful only because of what is missing.
        let is_whole = diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error);
        let found = validate::check(&config, &gaps).into_iter();
        diagnostics.extend(found.filter(|diagnostic| is_whole || diagnostic.severity == Severity::Error));
        crate::diagnostic::sort(&mut diagnostics);
        Self { config, diagnostics, sources }
    }

    /// Whether the configuration can be served: there is no error.
    pub fn is_valid(&self) -> bool {
        self.count(Severity::Error) == 0
    }

    /// Number of diagnostics of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }
}

#[cfg(test)]
mod tests;
