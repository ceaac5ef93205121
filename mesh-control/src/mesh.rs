//! A mesh: resources, and the indexes that validation and translation look things up in.

use crate::config::Config;
use crate::destination_rules::DestinationRules;
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
    /// 1 for the first configuration of a process, then one more for each that replaces it.
    pub version: u64,
}

impl Mesh {
    /// The mesh of a configuration, as version 1.
    pub fn new(config: Config) -> Self {
        let registry = Registry::new(&config);
        let destination_rules = DestinationRules::new(&config);
        Self { config, registry, destination_rules, version: 1 }
    }

    /// The same mesh as another version.
    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        Self { version, ..self }
    }
}
