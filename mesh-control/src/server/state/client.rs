//! The client of a stream, as its first request describes it.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_core::node::{Node, Role};
use mesh_xds::node;
use mesh_xds::proto::envoy::config::core::v3 as core;
use prost_types::value::Kind;

use crate::mesh::Mesh;
use crate::server::snapshot::{ClientView, Program, Slot, World};
use crate::translate::with_service;

/// Metadata with all addresses of a workload, separated by commas.
const INSTANCE_IPS: &str = "INSTANCE_IPS";
/// Metadata that Istio's own proxies have.
const ISTIO_VERSION: &str = "ISTIO_VERSION";

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    /// As it names itself.
    pub(super) id: String,
    /// The node as it describes itself.
    described: Node,
    /// Its addresses, other than those of the loopback, which say nothing.
    addresses: Vec<IpAddr>,
    pub(super) view: ClientView,
    pub(super) slot: Arc<Slot>,
}

impl Client {
    pub(super) fn new(xds: &core::Node, described: Node, world: &World) -> Self {
        let program = program(xds, &described);
        let addresses = addresses(xds);
        let view = view(&described, &addresses, program, &world.mesh);
        let slot = world.slot(&view);
        Self { id: xds.id.clone(), described, addresses, view, slot }
    }

    /// Looks it up in another version of the mesh.
    pub(super) fn handle_world(&mut self, world: &World) {
        self.view = view(&self.described, &self.addresses, self.view.program, &world.mesh);
        self.slot = world.slot(&self.view);
    }
}

fn view(described: &Node, addresses: &[IpAddr], program: Program, mesh: &Mesh) -> ClientView {
    ClientView { node: with_service(described.clone(), addresses, &mesh.registry), program }
}

fn program(xds: &core::Node, node: &Node) -> Program {
    match node.role {
        _ if node::is_of_this_project(xds) => Program::OfThisProject,
        Role::Library => Program::Grpc,
        Role::Sidecar(_) | Role::Gateway if metadata(xds, ISTIO_VERSION).is_some() => Program::IstioProxy,
        Role::Sidecar(_) | Role::Gateway => Program::Envoy,
    }
}

fn addresses(xds: &core::Node) -> Vec<IpAddr> {
    let of_id = xds.id.split('~').nth(1);
    let listed = metadata(xds, INSTANCE_IPS).into_iter().flat_map(|list| list.split(','));
    let parsed = of_id.into_iter().chain(listed).filter_map(|address| address.trim().parse::<IpAddr>().ok());
    parsed.filter(|address| !address.is_loopback() && !address.is_unspecified()).collect()
}

fn metadata<'a>(xds: &'a core::Node, key: &str) -> Option<&'a str> {
    match xds.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::node::Interception;
    use prost_types::{Struct, Value};

    use super::*;

    fn with(id: &str, fields: &[(&str, &str)]) -> core::Node {
        let value = |text: &&str| Value { kind: Some(Kind::StringValue((*text).to_owned())) };
        let fields = fields.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
        core::Node { id: id.to_owned(), metadata: Some(Struct { fields }), ..core::Node::default() }
    }

    #[test]
    fn programs_are_told_apart() {
        let own = node::to_xds(&Node::client(Role::Library, "default"));
        let check = |xds: &core::Node| program(xds, &node::from_xds(xds).unwrap());
        assert_eq!(check(&own), Program::OfThisProject);
        let id = "sidecar~10.0.0.1~a.default~default.svc.cluster.local";
        for (fields, expected) in [
            (&[("GENERATOR", "grpc"), ("ISTIO_VERSION", "1.29.6")][..], Program::Grpc),
            (&[("ISTIO_VERSION", "1.29.6")], Program::IstioProxy),
            (&[], Program::Envoy),
        ] {
            assert_eq!(check(&with(id, fields)), expected, "{fields:?}");
        }
        let own = node::to_xds(&Node::client(Role::Sidecar(Interception::None), "default"));
        assert_eq!(check(&own), Program::OfThisProject);
    }

    #[test]
    fn addresses_are_those_of_the_id_and_of_the_metadata_except_loopback() {
        let check = |id: &str, listed: &str| {
            let found = addresses(&with(id, &[(INSTANCE_IPS, listed)]));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(check("sidecar~10.0.0.1~a~b", "10.0.0.2, fd00::1"), ["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert_eq!(check("sidecar~127.0.0.1~a~b", "0.0.0.0,x"), Vec::<String>::new());
    }
}
