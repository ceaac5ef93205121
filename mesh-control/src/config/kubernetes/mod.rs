//! Objects of Kubernetes that say what the services of a mesh are, where their workloads are, and which labels these have.
//!
//! Only the fields that matter to a mesh are read, and their types are checked as the API server does. All others are left
//! alone: Kubernetes' objects have many, and none of them changes what a mesh does.

mod endpoint;
mod endpoint_slice;
mod endpoints;
mod namespace;
mod node;
mod pod;
mod pod_template;
mod port;
mod secret;
mod service;

pub use endpoint::{Addresses, EndpointAddress, EndpointPort};
pub use endpoint_slice::EndpointSlice;
pub use endpoints::Endpoints;
pub use namespace::Namespace;
pub use node::Node;
pub use pod::Pod;
pub use pod_template::{
    CronJob, DaemonSet, Deployment, Job, PodTemplate, ReplicaSet, ReplicationController, StatefulSet,
};
pub use port::{KubernetesPort, TargetPort};
pub use secret::{Secret, SecretData};
pub use service::Service;

use std::net::IpAddr;

use crate::document::{Context, FromNode, Object};

/// An object in a field; `None` if it is absent, or not an object, which is reported.
fn object<'a>(parent: &Object<'a>, name: &'static str, cx: Context<'a>) -> Option<Object<'a>> {
    Object::new(parent.node(name)?, cx)
}

/// An IP address as text.
struct Ip(IpAddr);

impl FromNode for Ip {
    fn from_node(node: &crate::document::Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let Ok(ip) = text.parse() else {
            cx.invalid(node.mark, format!("{text:?} is not an IP address"), "expected an IP address");
            return None;
        };
        Some(Self(ip))
    }
}
