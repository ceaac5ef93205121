//! `EndpointSlice`: addresses of a service.
//!
//! Source: `discovery/v1`.

use super::Ip;
use super::endpoint::{Addresses, EndpointAddress, pod};
use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::document::{Context, FromNode, Located, Node, Object};

/// The label with the name of the Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Addresses of a service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointSlice {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// The addresses.
    pub addresses: Addresses,
}

impl EndpointSlice {
    /// Name of the Service in its namespace to which the addresses belong.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get(SERVICE_NAME).map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl Resource for EndpointSlice {
    const LOCAL_FIELDS: &'static [&'static str] = &["endpoints"];

    fn read(metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let family = read_family(&object);
        let endpoints: Vec<Item> = object.list("endpoints");
        let cx = cx.field("endpoints");
        let addresses =
            endpoints.iter().enumerate().flat_map(|(i, item)| item.0.iter().map(move |it| (i, &it.address)));
        for (i, address) in addresses {
            if family.is_some_and(|is_v4| is_v4 != address.is_ipv4()) {
                let expected = if address.is_ipv4() { "addressType is IPv6" } else { "addressType is IPv4" };
                let message = format!("{} is an address of the other type", address.value);
                cx.index(i).field("addresses").refuse(address.position.clone(), message, expected);
            }
        }
        let endpoints = endpoints.into_iter().flat_map(|item| item.0).collect();
        family?;
        Some(Self { addresses: Addresses { ports: object.list("ports"), endpoints }, metadata })
    }
}

/// Whether the addresses are of IPv4.
fn read_family(object: &Object<'_>) -> Option<bool> {
    if !object.has("addressType") {
        object.missing("addressType");
    }
    let table = [("IPv4", 0, Some(true)), ("IPv6", 1, Some(false)), ("FQDN", 2, None)];
    let cx = object.cx.field("addressType");
    cx.enumeration(object.node("addressType")?, &table)
}

/// An endpoint, once for each of its addresses, as in Istio.
struct Item(Vec<EndpointAddress>);

impl FromNode for Item {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let addresses: Vec<Located<Ip>> = object.filled_list("addresses");
        let conditions = object.node("conditions").and_then(|node| Object::new(node, cx.field("conditions")));
        // An absent condition means that it is ready.
        let is_ready = conditions.is_none_or(|conditions| conditions.optional("ready").unwrap_or(true));
        let text = |name| object.optional::<String>(name).unwrap_or_default();
        let (node, zone) = (text("nodeName"), text("zone"));
        let pod = pod(&object);
        let endpoint = |Located { value: Ip(value), position }| EndpointAddress {
            address: Located { value, position },
            is_ready,
            pod: pod.clone(),
            node: node.clone(),
            zone: zone.clone(),
        };
        Some(Self(addresses.into_iter().map(endpoint).collect()))
    }
}
