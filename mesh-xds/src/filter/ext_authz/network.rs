//! `envoy.extensions.filters.network.ext_authz.v3`.

use mesh_core::filter::ext_authz::NetworkExtAuthz;

use super::{core, decode_grpc, names};
use crate::decode::field::{At, Result, fields};
use crate::decode::metadata_matcher::metadata_matcher;
use crate::decode::value::{optional, required};
use crate::proto::envoy::extensions::filters::network::ext_authz::v3 as proto;

/// The filter of connections.
pub(crate) fn decode(at: &At<'_>, message: &proto::ExtAuthz) -> Result<NetworkExtAuthz> {
    fields! {
        proto::ExtAuthz = message, at;
        use {
            stat_prefix, grpc_service, failure_mode_allow, include_peer_certificate, transport_api_version,
            filter_enabled_metadata, include_tls_session, metadata_context_namespaces,
        }
        ignore {}
        refuse {
            bootstrap_metadata_labels_key, send_tls_alert_on_denial, typed_metadata_context_namespaces, shadow_mode,
        }
    }
    if *transport_api_version != core::ApiVersion::V3 as i32 {
        return Err(at.field("transport_api_version").refuse("expected V3"));
    }
    let service_at = at.field("grpc_service");
    let service = decode_grpc(&service_at, required(&service_at, grpc_service.as_ref())?)?;
    let mut model = NetworkExtAuthz::new(service, stat_prefix);
    model.failure_mode_allow = *failure_mode_allow;
    (model.include_peer_certificate, model.include_tls_session) = (*include_peer_certificate, *include_tls_session);
    let metadata_at = at.field("filter_enabled_metadata");
    model.filter_enabled_metadata = optional(&metadata_at, filter_enabled_metadata.as_ref(), metadata_matcher)?;
    model.metadata_context_namespaces = names(metadata_context_namespaces);
    Ok(model)
}
