//! Transport sockets and config sources. Only plain text and the one aggregated stream are supported, so decoding only
//! checks them.

use mesh_core::model::UpstreamTransportSocket;

use super::field::{At, Result, fields};
use crate::descriptor::{describe, type_name};
use crate::proto::envoy::config::core::v3::{
    ConfigSource, TransportSocket, config_source::ConfigSourceSpecifier, transport_socket,
};

/// The message of plain text.
pub(super) const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// Decodes the transport socket of connections to endpoints.
pub(super) fn upstream(at: &At<'_>, socket: &TransportSocket) -> Result<UpstreamTransportSocket> {
    only_plain_text(at, socket)?;
    Ok(UpstreamTransportSocket::PlainText)
}

/// Refuses a transport socket other than plain text. Plain text instead of TLS would be a security hole.
pub(super) fn only_plain_text(at: &At<'_>, socket: &TransportSocket) -> Result<()> {
    let TransportSocket { name, config_type } = socket;
    let Some(transport_socket::ConfigType::TypedConfig(config)) = config_type else {
        return Err(at.field("typed_config").refuse(format_args!("is missing in transport socket {name}")));
    };
    match type_name(&config.type_url) {
        RAW_BUFFER => Ok(()),
        other => Err(at.refuse(format_args!("transport socket {}: not supported", describe(name, other)))),
    }
}

/// Refuses a config source other than the stream from which the referring resource came.
pub(super) fn only_aggregated(at: &At<'_>, source: &ConfigSource) -> Result<()> {
    fields! {
        ConfigSource = source, at;
        use { config_source_specifier }
        ignore {
            initial_fetch_timeout: "the timeout is 15 s",
            resource_api_version: "only version 3 is supported",
        }
        refuse { authorities }
    }
    match config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
        _ => Err(at.refuse("only ads and self are supported")),
    }
}
