//! Short names for the protobuf modules, and the few values that every resource needs.

pub(super) use mesh_xds::proto::envoy::config::{
    cluster::v3 as cluster, core::v3 as core, endpoint::v3 as endpoint, listener::v3 as listener, rbac::v3 as rbac,
    route::v3 as route,
};
pub(super) use mesh_xds::proto::envoy::extensions::filters::common::fault::v3 as fault_common;
pub(super) use mesh_xds::proto::envoy::extensions::filters::http::cors::v3 as cors;
pub(super) use mesh_xds::proto::envoy::extensions::filters::http::ext_authz::v3 as ext_authz;
pub(super) use mesh_xds::proto::envoy::extensions::filters::http::fault::v3 as fault;
pub(super) use mesh_xds::proto::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
pub(super) use mesh_xds::proto::envoy::extensions::filters::http::rbac::v3 as http_rbac;
pub(super) use mesh_xds::proto::envoy::extensions::filters::http::router::v3 as router;
pub(super) use mesh_xds::proto::envoy::extensions::filters::listener::tls_inspector::v3 as tls_inspector;
pub(super) use mesh_xds::proto::envoy::extensions::filters::network::ext_authz::v3 as network_ext_authz;
pub(super) use mesh_xds::proto::envoy::extensions::filters::network::http_connection_manager::v3 as http;
pub(super) use mesh_xds::proto::envoy::extensions::filters::network::mongo_proxy::v3 as mongo;
pub(super) use mesh_xds::proto::envoy::extensions::filters::network::rbac::v3 as network_rbac;
pub(super) use mesh_xds::proto::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
pub(super) use mesh_xds::proto::envoy::extensions::path::r#match::uri_template::v3 as uri_template;
pub(super) use mesh_xds::proto::envoy::extensions::retry::host::previous_hosts::v3 as previous_hosts;
pub(super) use mesh_xds::proto::envoy::extensions::transport_sockets::{raw_buffer::v3 as raw_buffer, tls::v3 as tls};
pub(super) use mesh_xds::proto::envoy::extensions::upstreams::http::v3 as upstream_http;
pub(super) use mesh_xds::proto::envoy::r#type::matcher::v3 as matcher;
pub(super) use mesh_xds::proto::envoy::r#type::v3 as percent;
pub(super) use mesh_xds::proto::udpa::r#type::v1::TypedStruct;
pub(super) use mesh_xds::resource::pack as any;

use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// Key of Istio's own metadata.
const ISTIO: &str = "istio";

pub(super) fn duration(value: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    }
}

/// Resources come over the stream that this resource came over, and are waited for.
pub(super) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        initial_fetch_timeout: Some(prost_types::Duration::default()),
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..core::ConfigSource::default()
    }
}

pub(super) fn socket_address(address: &str, port: u16) -> core::Address {
    let socket = core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..core::SocketAddress::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

pub(super) fn string(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

pub(super) fn boolean(value: bool) -> Value {
    Value { kind: Some(Kind::BoolValue(value)) }
}

pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

pub(super) fn list(items: Vec<Struct>) -> Value {
    let values = items.into_iter().map(structure).collect();
    Value { kind: Some(Kind::ListValue(prost_types::ListValue { values })) }
}

pub(super) fn structure(fields: Struct) -> Value {
    Value { kind: Some(Kind::StructValue(fields)) }
}

/// Metadata under Istio's key.
pub(super) fn istio_metadata(fields: Struct) -> core::Metadata {
    core::Metadata { filter_metadata: BTreeMap::from([(ISTIO.to_owned(), fields)]), ..core::Metadata::default() }
}
