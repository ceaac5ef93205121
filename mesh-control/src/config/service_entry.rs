//! `ServiceEntry`: a service of the mesh, or one outside of it.
//!
//! Source: `networking/v1alpha3/service_entry.proto`. In a directory of files these are the registry of services.

use std::net::IpAddr;

use super::Resource;
use super::metadata::Metadata;
use super::port::{Protocol, read_protocol};
use super::scalar::{Labels, Visibility, labels};
use super::workload_entry::Workload;
use crate::diagnostic::{Code, Diagnostic, Position};
use crate::document::{Context, FromNode, Located, Node, Object, Value};
use crate::host::Host;

/// A service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceEntry {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Names of the service, at least one.
    pub hosts: Vec<Located<Host>>,
    /// Virtual addresses by which clients may also call it.
    pub addresses: Vec<IpAddr>,
    /// Ports; none makes it unreachable.
    pub ports: Vec<ServicePort>,
    /// Whether its workloads are in the mesh.
    pub location: Location,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Its workloads, if listed here.
    pub endpoints: Vec<Workload>,
    /// Selects WorkloadEntries of its namespace, if not listed here.
    pub workload_selector: Option<Labels>,
    /// Names of which the certificate of an endpoint must have one.
    pub subject_alt_names: Vec<String>,
    /// Namespaces that see it.
    pub export_to: Vec<Visibility>,
}

/// Istio `ServiceEntry.Location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// Outside of the mesh; the default.
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// Istio `ServiceEntry.Resolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// The addresses of the endpoints.
    Static,
    /// All addresses that DNS gives for the endpoints, or for the host itself if there are none.
    Dns,
    /// One address of those that DNS gives, kept as long as connections last.
    DnsRoundRobin,
}

/// A port of a service. Istio `ServicePort`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServicePort {
    /// Its position.
    pub position: Position,
    /// Port that clients call, 1-65535.
    pub number: u16,
    /// Name, unique in the service.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Port of the endpoints, by default the same.
    pub target_port: Option<u16>,
}

impl Resource for ServiceEntry {
    const LOCAL_FIELDS: &'static [&'static str] = &["spec.endpoints"];

    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(spec, cx)?;
        object.at_most_one_of(&["workloadSelector", "endpoints"]);
        let resolution = read_resolution(&object);
        let addresses: Vec<Located<AddressText>> = object.list("addresses");
        let workload_selector = object.node("workloadSelector").and_then(|node| {
            let selected = Object::new(node, cx.field("workloadSelector"))?;
            let labels = labels(&selected, "labels");
            selected.finish();
            Some(labels.unwrap_or_default())
        });
        let entry = Self {
            hosts: object.filled_list("hosts"),
            addresses: addresses.iter().enumerate().filter_map(|(i, a)| read_address(a, i, resolution, cx)).collect(),
            ports: object.list("ports"),
            location: read_location(&object),
            resolution: resolution.unwrap_or(Resolution::Static),
            endpoints: object.list("endpoints"),
            workload_selector,
            subject_alt_names: object.list("subjectAltNames"),
            export_to: object.list("exportTo"),
            metadata,
        };
        let is_none =
            object.node("resolution").is_some_and(|node| matches!(&node.value, Value::String(name) if name == "NONE"));
        if is_none && !entry.endpoints.is_empty() {
            cx.invalid(object.key_mark("endpoints"), "NONE mode cannot set endpoints", "set resolution STATIC or DNS");
        }
        entry.check(cx);
        let declared = object.node("ports").map_or(0, |ports| ports.value.item_count());
        // An endpoint may refer to a port that could not be read.
        if entry.ports.len() == declared {
            entry.check_endpoint_ports(cx.field("endpoints"));
        }
        object.finish();
        resolution.is_some().then_some(entry)
    }
}

impl ServiceEntry {
    fn check(&self, cx: Context<'_>) {
        for (i, host) in self.hosts.iter().enumerate() {
            let refuse = |code, message: String| {
                cx.field("hosts").index(i).report(Diagnostic::error(code, host.position.clone(), message));
            };
            if host.as_str() == "*" {
                refuse(Code::SchemaValidation, "hostname cannot be wildcard".into());
            } else if host.is_wildcard() && self.resolution != Resolution::Static {
                refuse(Code::SchemaValidation, format!("{} cannot be resolved by DNS: it is a wildcard", host.value));
            }
            if self.hosts[..i].iter().any(|other| other.value == host.value) {
                refuse(Code::Duplicate, format!("host {} is listed twice", host.value));
            }
        }
        for (i, port) in self.ports.iter().enumerate() {
            let refuse = |message: String| {
                let diagnostic = Diagnostic::error(Code::SchemaValidation, port.position.clone(), message);
                cx.field("ports").index(i).report(diagnostic.label("expected unique names and numbers"));
            };
            if self.ports[..i].iter().any(|other| other.number == port.number) {
                refuse(format!("port number cannot be duplicated: {} is listed twice", port.number));
            }
            if self.ports[..i].iter().any(|other| other.name == port.name) {
                refuse(format!("Duplicate value: port name {:?} is listed twice", port.name));
            }
        }
        self.check_endpoints(cx.field("endpoints"));
    }

    fn check_endpoints(&self, cx: Context<'_>) {
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            let refuse = |position: &Position, message: String, expected: &str| {
                let diagnostic = Diagnostic::error(Code::SchemaValidation, position.clone(), message);
                cx.index(i).report(diagnostic.label(expected));
            };
            let address = &endpoint.address;
            if self.resolution == Resolution::Static && address.parse::<IpAddr>().is_err() {
                let message = format!("{:?} is not an IP address", address.value);
                refuse(
                    &address.position,
                    message,
                    "resolution STATIC needs IP addresses; use resolution DNS for names",
                );
            }
            if self.resolution == Resolution::DnsRoundRobin && i > 0 {
                let message = "DNS_ROUND_ROBIN mode cannot have multiple endpoints".into();
                refuse(&endpoint.position, message, "expected at most one endpoint");
            }
        }
    }

    fn check_endpoint_ports(&self, cx: Context<'_>) {
        let names: Vec<_> = self.ports.iter().map(|port| port.name.as_str()).collect();
        let expected = match names.as_slice() {
            [] => "the service has no port at all".to_owned(),
            names => format!("expected one of {}", names.join(", ")),
        };
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            for name in endpoint.ports.keys().filter(|name| !names.contains(&name.as_str())) {
                let message = format!("the service has no port named {name:?}");
                cx.index(i).refuse(endpoint.position.clone(), message, expected.as_str());
            }
        }
    }
}

/// Text of a virtual address.
struct AddressText(String);

impl FromNode for AddressText {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        // YAML 1.2 reads `[2001:db8::]` as a key without value, the YAML of Kubernetes reads it as an address.
        if let Value::Mapping(entries) = &node.value
            && let [(key, Node { value: Value::Null, .. })] = entries.as_slice()
            && format!("{}:", key.name).parse::<IpAddr>().is_ok()
        {
            return Some(Self(format!("{}:", key.name)));
        }
        String::from_node(node, cx).map(Self)
    }
}

fn read_resolution(object: &Object<'_>) -> Option<Resolution> {
    let cx = object.cx.field("resolution");
    let Some(node) = object.node("resolution") else {
        // Absent means NONE, the enum's zero value.
        let mark = object.mark();
        cx.unsupported(mark, "resolution NONE, the default, is not supported yet: set STATIC, DNS or DNS_ROUND_ROBIN");
        return None;
    };
    let table = [
        ("NONE", 0, None),
        ("STATIC", 1, Some(Resolution::Static)),
        ("DNS", 2, Some(Resolution::Dns)),
        ("DNS_ROUND_ROBIN", 3, Some(Resolution::DnsRoundRobin)),
        ("DYNAMIC_DNS", 4, None),
    ];
    cx.enumeration(node, &table)
}

fn read_location(object: &Object<'_>) -> Location {
    let table =
        [("MESH_EXTERNAL", 0, Some(Location::MeshExternal)), ("MESH_INTERNAL", 1, Some(Location::MeshInternal))];
    let cx = object.cx.field("location");
    object.node("location").and_then(|node| cx.enumeration(node, &table)).unwrap_or(Location::MeshExternal)
}

fn read_address(
    address: &Located<AddressText>,
    i: usize,
    resolution: Option<Resolution>,
    cx: Context<'_>,
) -> Option<IpAddr> {
    let text = &address.value.0;
    let field = cx.field("addresses");
    let cx = field.index(i);
    let refuse = |code, message: String, expected: &str| {
        cx.report(Diagnostic::error(code, address.position.clone(), message).label(expected));
    };
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    if text.parse::<ipnet::IpNet>().is_err() {
        let message = format!("{text:?} is not an IP address");
        refuse(Code::SchemaValidation, message, "expected an IP address");
    } else if resolution == Some(Resolution::Static) || resolution.is_none() {
        refuse(Code::Unsupported, format!("{text:?}: CIDR addresses are not supported yet"), "not supported");
    } else {
        let message = format!("{text:?}: CIDR addresses are allowed only for NONE/STATIC resolution types");
        refuse(Code::SchemaValidation, message, "expected an IP address");
    }
    None
}

impl FromNode for ServicePort {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        if !object.has("number") {
            object.missing("number");
        }
        let number = object.port("number");
        let name: Option<String> = object.required("name");
        let protocol = read_protocol(&object).unwrap_or_else(|| {
            let message = "protocol detection is not supported yet: set HTTP, HTTP2, GRPC, TCP or what else is spoken";
            cx.field("protocol").unsupported(object.mark(), message);
            None
        });
        let target_port = object.port("targetPort");
        let position = cx.position(object.value_mark("number"));
        object.finish();
        Some(Self { position, number: number?, name: name?, protocol: protocol?, target_port })
    }
}
