//! Transport sockets.

use mesh_core::model::{DownstreamTransportSocket, UpstreamTransportSocket};
use prost_types::Any;

use super::field::{At, Result};
use super::tls;
use super::value::unpack;
use crate::descriptor::{describe, type_name};
use crate::proto::envoy::config::core::v3::{TransportSocket, transport_socket};

const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const UPSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const DOWNSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// The messages of transport sockets.
pub(super) const TRANSPORT_SOCKETS: [&str; 3] = [RAW_BUFFER, UPSTREAM_TLS, DOWNSTREAM_TLS];

/// Decodes the transport socket of connections to endpoints.
pub(super) fn upstream(at: &At<'_>, socket: &TransportSocket) -> Result<UpstreamTransportSocket> {
    let config = typed_config(at, socket)?;
    let at_config = at.field("typed_config");
    match type_name(&config.type_url) {
        RAW_BUFFER => Ok(UpstreamTransportSocket::PlainText),
        UPSTREAM_TLS => {
            let context = tls::upstream(&at_config, &unpack(&at_config, config)?)?;
            Ok(UpstreamTransportSocket::Tls(context.into()))
        }
        other => Err(not_supported(at, socket, other)),
    }
}

/// Decodes the transport socket of connections from clients.
pub(super) fn downstream(at: &At<'_>, socket: &TransportSocket) -> Result<DownstreamTransportSocket> {
    let config = typed_config(at, socket)?;
    let at_config = at.field("typed_config");
    match type_name(&config.type_url) {
        RAW_BUFFER => Ok(DownstreamTransportSocket::PlainText),
        DOWNSTREAM_TLS => {
            let context = tls::downstream(&at_config, &unpack(&at_config, config)?)?;
            Ok(DownstreamTransportSocket::Tls(context.into()))
        }
        other => Err(not_supported(at, socket, other)),
    }
}

fn typed_config<'m>(at: &At<'_>, socket: &'m TransportSocket) -> Result<&'m Any> {
    let TransportSocket { name, config_type } = socket;
    match config_type {
        Some(transport_socket::ConfigType::TypedConfig(config)) => Ok(config),
        None => Err(at.field("typed_config").refuse(format_args!("is missing in transport socket {name}"))),
    }
}

/// Plain text instead of a transport socket that is not supported would be a security hole.
fn not_supported(at: &At<'_>, socket: &TransportSocket, kind: &str) -> Box<super::FieldError> {
    at.refuse(format_args!("transport socket {}: not supported", describe(&socket.name, kind)))
}
