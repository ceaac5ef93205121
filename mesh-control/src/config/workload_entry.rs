//! `WorkloadEntry`, and the endpoint of a ServiceEntry, which has the same fields.
//!
//! Source: `networking/v1alpha3/workload_entry.proto`.

use std::collections::BTreeMap;

use super::Resource;
use super::metadata::Metadata;
use super::scalar::{Labels, labels};
use crate::diagnostic::Position;
use crate::document::{Context, FromNode, Located, Mark, Node, Object};
use crate::host::Host;

/// A workload: an inline endpoint, or the `spec` of a WorkloadEntry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Workload {
    /// Its position.
    pub position: Position,
    /// IP address, or a name if the service is resolved by DNS.
    pub address: Located<String>,
    /// Ports by the names of the service's ports.
    pub ports: BTreeMap<String, u16>,
    /// Labels, by which subsets select.
    pub labels: Labels,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Share of requests relative to the other endpoints of its service, default 1.
    pub weight: Option<u32>,
    /// Service account, from which its identity follows.
    pub service_account: String,
}

/// A workload that ServiceEntries can select.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkloadEntry {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// The workload.
    pub workload: Workload,
}

impl Resource for WorkloadEntry {
    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let workload = Workload::from_node(spec, cx)?;
        Some(Self { metadata, workload })
    }
}

impl FromNode for Workload {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let (position, address) = (object.position(), read_address(&object));
        let ports = read_ports(&object);
        let labels = labels(&object, "labels").unwrap_or_default();
        let locality = object.optional("locality").unwrap_or_default();
        let weight = object.optional("weight");
        let service_account = object.optional("serviceAccount").unwrap_or_default();
        // Without an address, the gateway of the network is the address; with one, the network has no effect here.
        object.optional::<String>("network");
        object.finish();
        Some(Self { position, address: address?, ports, labels, locality, weight, service_account })
    }
}

fn read_address(object: &Object<'_>) -> Option<Located<String>> {
    let cx = object.cx.field("address");
    let read: Option<Located<String>> = object.optional("address");
    if read.is_none() && object.has("address") {
        return None;
    }
    let Some(address) = read.filter(|address| !address.is_empty()) else {
        if object.has("network") {
            cx.unsupported(object.key_mark("network"), "the gateway of a network as address is not supported yet");
        } else {
            cx.invalid(object.mark(), "Address is required", "address is required here");
        }
        return None;
    };
    let mark = object.value_mark("address");
    if address.starts_with("unix:") {
        return refuse_unix(object, &address, mark);
    }
    if let Err(error) = Host::parse(&address, "") {
        cx.invalid(mark, format!("{:?} is not an address: {error}", address.value), "expected an IP address or a name");
        return None;
    }
    Some(address)
}

fn refuse_unix(object: &Object<'_>, address: &str, mark: Mark) -> Option<Located<String>> {
    let cx = object.cx.field("address");
    let path = address.strip_prefix("unix://").unwrap_or_default();
    if !path.starts_with(['/', '@']) {
        cx.invalid(
            mark,
            format!("{address:?}: UDS must be an absolute path or abstract socket"),
            "expected unix:///PATH",
        );
    } else if path.ends_with('/') {
        cx.invalid(mark, format!("{address:?}: UDS may not be a dir"), "expected unix:///PATH");
    } else if object.has("ports") {
        cx.invalid(object.key_mark("ports"), "UDS may not include ports", "a Unix socket has no ports");
    } else {
        cx.unsupported(mark, "Unix sockets are not supported yet");
    }
    None
}

fn read_ports(object: &Object<'_>) -> BTreeMap<String, u16> {
    let ports: BTreeMap<String, Located<PortNumber>> = object.optional("ports").unwrap_or_default();
    let cx = object.cx.field("ports");
    for (name, port) in &ports {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            cx.refuse(port.position.clone(), format!("{name:?} is not a port name"), "name of a port of the service");
        }
    }
    ports.into_iter().map(|(name, port)| (name, port.value.0)).collect()
}

struct PortNumber(u16);

impl FromNode for PortNumber {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        cx.integer(node, 1, u16::MAX.into()).and_then(|port| u16::try_from(port).ok()).map(Self)
    }
}
