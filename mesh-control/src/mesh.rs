//! A mesh: resources, and the indexes that validation and translation look things up in.

use crate::config::{Config, VirtualService};
use crate::destination_rules::DestinationRules;
use crate::gateway_api::GatewayApi;
use crate::peer_authentications::PeerAuthentications;
use crate::registry::Registry;

/// The resources of a configuration, with their services and policies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Mesh {
    /// The resources.
    pub config: Config,
    /// The services that they declare.
    pub registry: Registry,
    /// The policies of the services.
    pub destination_rules: DestinationRules,
    /// The resources of Gateway API, in terms of Istio's.
    pub gateway_api: GatewayApi,
    /// How workloads are called.
    pub peer_authentications: PeerAuthentications,
    /// Whether the workloads get certificates of the mesh. See [`Options::certificates`](crate::config::Options).
    pub has_certificates: bool,
    /// 1 for the first configuration of a process, then one more for each that replaces it.
    pub version: u64,
}

impl Mesh {
    /// The mesh of a configuration, as version 1, without certificates.
    pub fn new(config: Config) -> Self {
        let registry = Registry::new(&config);
        let gateway_api = GatewayApi::new(&config, &registry);
        let destination_rules = DestinationRules::new(&config);
        let peer_authentications = PeerAuthentications::new(&config);
        let (has_certificates, version) = (false, 1);
        Self { config, registry, destination_rules, gateway_api, peer_authentications, has_certificates, version }
    }

    /// All rules of requests and connections: the VirtualServices, then the routes of Gateway API.
    pub fn virtual_services(&self) -> impl Iterator<Item = &VirtualService> {
        self.config.virtual_services.iter().chain(&self.gateway_api.virtual_services)
    }

    /// The same mesh, whose workloads get certificates, or not.
    #[must_use]
    pub fn with_certificates(self, has_certificates: bool) -> Self {
        Self { has_certificates, ..self }
    }

    /// The same mesh as another version.
    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        Self { version, ..self }
    }
}
