//! Transport sockets and config sources. Only plain text and the one aggregated stream are supported, so decoding only
//! checks them.

use mesh_core::model::UpstreamTransportSocket;

use super::field::{At, Result, fields};
use crate::descriptor::type_name;
use crate::proto::envoy::config::core::v3::{
    ConfigSource, TransportSocket, config_source::ConfigSourceSpecifier, transport_socket,
};

/// Decodes the transport socket of connections to endpoints.
pub(super) fn upstream(at: &At<'_>, socket: &TransportSocket) -> Result<UpstreamTransportSocket> {
    only_plain_text(at, socket)?;
    Ok(UpstreamTransportSocket::PlainText)
}

/// Refuses a transport socket other than plain text. Plain text instead of TLS would be a security hole.
pub(super) fn only_plain_text(at: &At<'_>, socket: &TransportSocket) -> Result<()> {
    let TransportSocket { name, config_type } = socket;
    let kind = config_type
        .as_ref()
        .map_or(name.as_str(), |transport_socket::ConfigType::TypedConfig(config)| type_name(&config.type_url));
    match kind {
        "envoy.transport_sockets.raw_buffer" | "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => Ok(()),
        other => Err(at.refuse(format_args!("transport socket {other}: not supported"))),
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
