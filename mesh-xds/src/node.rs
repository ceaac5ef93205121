//! The xDS form of a node, as Istio's agent writes it.
//!
//! `id` and `cluster` are those of [`Node`], and the metadata are `NAMESPACE`, `LABELS`,
//! `INTERCEPTION_MODE`, `SERVICE_ACCOUNT`, and `GENERATOR: grpc` for a library.

use std::collections::BTreeMap;

use mesh_core::host::HostError;
use mesh_core::node::{DEFAULT_NAMESPACE, Interception, Labels, Node, Role, resolve};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::r#type::v3::SemanticVersion;

const GENERATOR: &str = "GENERATOR";
const GRPC: &str = "grpc";
const NAMESPACE: &str = "NAMESPACE";
const LABELS: &str = "LABELS";
const INTERCEPTION_MODE: &str = "INTERCEPTION_MODE";
const SERVICE_ACCOUNT: &str = "SERVICE_ACCOUNT";
/// What the programs of this project call themselves, or how the name begins that they call themselves.
const USER_AGENT: &str = "mesh";
const REDIRECT: &str = "REDIRECT";

/// An xDS node cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The id does not begin with a known type.
    #[error("node id {0:?} has no known type: expected \"sidecar~...\" or \"router~...\"")]
    Type(String),
    /// The service is not a host.
    #[error("node cluster {cluster:?} is not a service")]
    Service {
        /// The invalid name.
        cluster: String,
        /// The cause.
        source: HostError,
    },
}

/// The node as it identifies itself to a control plane.
#[must_use]
pub fn to_xds(node: &Node) -> core::Node {
    let (generator, interception) = match node.role {
        Role::Sidecar(Interception::None) => (None, Some("NONE")),
        Role::Sidecar(Interception::Redirect) => (None, Some(REDIRECT)),
        Role::Gateway => (None, None),
        Role::Library => (Some(GRPC), None),
    };
    let labels = node.labels.iter().map(|(key, value)| (key.clone(), string(value))).collect();
    let mut fields = BTreeMap::from([
        (NAMESPACE.to_owned(), string(&node.namespace)),
        (LABELS.to_owned(), Value { kind: Some(Kind::StructValue(Struct { fields: labels })) }),
    ]);
    let account = node.service_account.as_deref();
    for (key, value) in [(GENERATOR, generator), (INTERCEPTION_MODE, interception), (SERVICE_ACCOUNT, account)] {
        fields.extend(value.map(|value| (key.to_owned(), string(value))));
    }
    core::Node {
        id: node.id(),
        cluster: node.cluster(),
        metadata: Some(Struct { fields }),
        user_agent_name: USER_AGENT.to_owned(),
        ..core::Node::default()
    }
}

fn string(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

/// The node with the name and the version of the program, as Envoy sends its own. What a bootstrap has in these fields is
/// replaced, as there.
#[must_use]
pub fn with_user_agent(node: core::Node, name: &str, version: &str) -> core::Node {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    let version = SemanticVersion { major_number: next(), minor_number: next(), patch: next() };
    let build = core::BuildVersion { version: Some(version), metadata: None };
    core::Node {
        user_agent_name: name.to_owned(),
        user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentBuildVersion(build)),
        ..node
    }
}

/// Whether the node is a program of this project. A library of another project supports less of what a library gets.
#[must_use]
pub fn is_of_this_project(node: &core::Node) -> bool {
    let name = node.user_agent_name.strip_prefix(USER_AGENT);
    name.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Decodes a node.
///
/// # Errors
///
/// If its type is unknown or its service is not a host.
pub fn from_xds(node: &core::Node) -> Result<Node, IdentityError> {
    let metadata = |key: &str| node.metadata.as_ref().and_then(|metadata| metadata.fields.get(key)?.kind.as_ref());
    let text = |key: &str| match metadata(key) {
        Some(Kind::StringValue(text)) => Some(text.as_str()),
        _ => None,
    };
    let mut id = node.id.split('~');
    let role = match (id.next().unwrap_or_default(), text(GENERATOR), text(INTERCEPTION_MODE)) {
        ("sidecar", Some(GRPC), _) => Role::Library,
        ("sidecar", _, Some(REDIRECT)) => Role::Sidecar(Interception::Redirect),
        ("sidecar", ..) => Role::Sidecar(Interception::None),
        ("router", ..) => Role::Gateway,
        _ => return Err(IdentityError::Type(node.id.clone())),
    };
    let service = match node.cluster.as_str() {
        "" => None,
        cluster => Some(
            resolve(cluster, DEFAULT_NAMESPACE)
                .map_err(|source| IdentityError::Service { cluster: cluster.into(), source })?,
        ),
    };
    let domain = id.nth(2).and_then(|domain| domain.split('.').next()).filter(|namespace| !namespace.is_empty());
    let namespace = text(NAMESPACE).or(domain).unwrap_or(DEFAULT_NAMESPACE).to_owned();
    let labels = match metadata(LABELS) {
        Some(Kind::StructValue(labels)) => labels.fields.iter().filter_map(label).collect(),
        _ => Labels::new(),
    };
    let service_account = text(SERVICE_ACCOUNT).map(str::to_owned);
    Ok(Node { role, namespace, labels, service: service.map(|(host, _)| host), service_account })
}

fn label((key, value): (&String, &Value)) -> Option<(String, String)> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some((key.clone(), text.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_the_same_after_a_round_trip() {
        let labels = Labels::from([("app".to_owned(), "reviews".to_owned())]);
        for role in
            [Role::Sidecar(Interception::None), Role::Sidecar(Interception::Redirect), Role::Gateway, Role::Library]
        {
            for service in ["reviews.books", "api.books.example"] {
                let node = Node::new(role, Some(service), None, labels.clone()).unwrap();
                assert_eq!(from_xds(&to_xds(&node)).unwrap(), node);
            }
            let node = Node::client(role, "books").with_service_account(Some("reader")).unwrap();
            assert_eq!(from_xds(&to_xds(&node)).unwrap(), node);
        }
    }

    #[test]
    fn an_unknown_type_is_refused() {
        let node = core::Node { id: "ztunnel~127.0.0.1~a~b".into(), ..core::Node::default() };
        assert_eq!(from_xds(&node).unwrap_err(), IdentityError::Type(node.id));
    }
}
