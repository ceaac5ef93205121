//! `GatewayClass`: who serves Gateways.

use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::document::{Context, Node, Object};

/// A class of Gateways.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayClass {
    /// Name and labels.
    pub metadata: Metadata,
    /// Who serves the Gateways of the class.
    pub controller_name: String,
}

impl Resource for GatewayClass {
    const IS_CLUSTER_SCOPED: bool = true;

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        let controller_name = object.required("controllerName");
        object.ignored(&["description"]);
        object.unsupported(&["parametersRef"]);
        object.finish();
        Some(Self { metadata, controller_name: controller_name? })
    }
}
