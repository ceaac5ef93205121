//! `Endpoints`: addresses of the service of the same name.
//!
//! Source: `core/v1`. EndpointSlices have replaced it; Kubernetes makes the slices of an `Endpoints` object itself.

use super::Ip;
use super::endpoint::{Addresses, EndpointAddress, pod};
use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::document::{Context, FromNode, Located, Node, Object};

/// Addresses of the service of the same name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Endpoints {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// The addresses, in sets with the same ports.
    pub subsets: Vec<Addresses>,
}

impl Resource for Endpoints {
    const LOCAL_FIELDS: &'static [&'static str] = &["subsets"];

    fn read(metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        Some(Self { metadata, subsets: object.list("subsets") })
    }
}

impl FromNode for Addresses {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (ready, others): (Vec<Item>, Vec<Item>) = (object.list("addresses"), object.list("notReadyAddresses"));
        let not_ready = others.into_iter().map(|item| EndpointAddress { is_ready: false, ..item.0 });
        let endpoints = ready.into_iter().map(|item| item.0).chain(not_ready).collect();
        Some(Self { ports: object.list("ports"), endpoints })
    }
}

/// Kubernetes `core/v1` `EndpointAddress`.
struct Item(EndpointAddress);

impl FromNode for Item {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let address: Option<Located<Ip>> = object.required("ip");
        let node = object.optional("nodeName").unwrap_or_default();
        let pod = pod(&object);
        let Located { value, position } = address?;
        let address = Located { value: value.0, position };
        Some(Self(EndpointAddress { address, is_ready: true, pod, node, zone: String::new() }))
    }
}
