//! A response before it is encoded as protobuf.

use std::sync::Arc;

use mesh_xds::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use mesh_xds::resource::ResourceType;

use crate::server::snapshot::{Encoded, Version};

/// A message to a client. Both forms of the protocol are made of it.
#[derive(Debug)]
pub struct Response {
    pub(super) resource_type: ResourceType,
    pub(super) version: Version,
    pub(super) nonce: u64,
    pub(super) resources: Vec<(Arc<str>, Arc<Encoded>)>,
    /// Names of resources that there are no longer; in the incremental form only.
    pub(super) removed: Vec<Arc<str>>,
}

impl Response {
    /// The type of its resources.
    #[must_use]
    pub fn resource_type(&self) -> ResourceType {
        self.resource_type
    }
}

impl From<Response> for DiscoveryResponse {
    fn from(response: Response) -> Self {
        Self {
            version_info: response.version.to_string(),
            type_url: response.resource_type.type_url(),
            nonce: response.nonce.to_string(),
            resources: response.resources.iter().map(|(_, resource)| resource.any.clone()).collect(),
            ..Self::default()
        }
    }
}

impl From<Response> for DeltaDiscoveryResponse {
    fn from(response: Response) -> Self {
        let resource = |(name, resource): &(Arc<str>, Arc<Encoded>)| Resource {
            name: name.to_string(),
            version: resource.version.to_string(),
            resource: Some(resource.any.clone()),
            ..Resource::default()
        };
        Self {
            system_version_info: response.version.to_string(),
            type_url: response.resource_type.type_url(),
            nonce: response.nonce.to_string(),
            resources: response.resources.iter().map(resource).collect(),
            removed_resources: response.removed.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }
}
