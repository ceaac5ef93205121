//! What holds for the whole mesh: the fields of Istio's `MeshConfig` that concern identities and mutual TLS.

use crate::config::MeshConfig;

/// Settings of the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshSettings {
    /// The trust domain of identities. Istio `MeshConfig.trustDomain`, default `cluster.local`.
    pub trust_domain: String,
    /// Other trust domains whose identities count as those of the trust domain. Istio `MeshConfig.trustDomainAliases`, default
    /// none.
    pub trust_domain_aliases: Vec<String>,
    /// The namespace whose resources apply to the whole mesh. Istio `MeshConfig.rootNamespace`, default `istio-system`.
    pub root_namespace: String,
    /// Whether workloads with certificates call each other with mutual TLS if no DestinationRule says how. Istio
    /// `MeshConfig.enableAutoMtls`, default true.
    pub enable_auto_mtls: bool,
}

impl From<&MeshConfig> for MeshSettings {
    fn from(config: &MeshConfig) -> Self {
        Self {
            trust_domain: config.trust_domain().to_owned(),
            trust_domain_aliases: config.trust_domain_aliases().to_vec(),
            root_namespace: config.root_namespace().to_owned(),
            enable_auto_mtls: config.enable_auto_mtls(),
        }
    }
}

impl MeshSettings {
    /// The trust domain and its aliases.
    pub fn trust_domains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.trust_domain).chain(&self.trust_domain_aliases).map(String::as_str)
    }
}
