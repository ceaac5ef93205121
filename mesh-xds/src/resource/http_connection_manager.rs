//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.

use std::sync::Arc;

use ipnet::IpNet;
use mesh_core::model::{
    ClientCertDetails, Codec, ForwardClientCert, ForwardClientCertDetails as ModelForwardDetails,
    HttpConnectionManager, PathWithEscapedSlashesAction as EscapedSlashes, RouteSource, ServerHeader, UpgradeConfig,
};

use super::config_source;
use super::field::{At, Result, fields};
use super::value::{enumeration, header_value, in_range, limit, list, network, optional, required, unpack};
use super::{access_log, http1_options, protocol_options, route_action::unique_upgrades, route_configuration};
use crate::filter::decode_chain;
use crate::proto::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions};
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager as ProtoHttpConnectionManager, Rds, RequestIdExtension,
    http_connection_manager::{
        CodecType, ForwardClientCertDetails, InternalAddressConfig, PathWithEscapedSlashesAction, RouteSpecifier,
        ServerHeaderTransformation, SetCurrentClientCertDetails, StripPortMode, UpgradeConfig as ProtoUpgradeConfig,
    },
};
use crate::proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;

/// Why tracing has no effect.
pub(super) const NO_SPANS: &str = "no spans are exported; trace context passes";

/// How a listener treats HTTP.
#[expect(clippy::too_many_lines, reason = "one table over one message, then one line per field")]
pub(super) fn decode(at: &At<'_>, hcm: &ProtoHttpConnectionManager) -> Result<HttpConnectionManager> {
    fields! {
        ProtoHttpConnectionManager = hcm, at;
        use {
            codec_type, stat_prefix, http_filters, common_http_protocol_options, http_protocol_options,
            http2_protocol_options, server_name, server_header_transformation, max_request_headers_kb,
            stream_idle_timeout, request_timeout, request_headers_timeout, access_log,
            use_remote_address, internal_address_config, xff_num_trusted_hops, skip_xff_append, via, generate_request_id,
            preserve_external_request_id, always_set_request_id_in_response, forward_client_cert_details,
            set_current_client_cert_details,
            upgrade_configs, normalize_path, merge_slashes, path_with_escaped_slashes_action, request_id_extension,
            strip_matching_host_port, route_specifier, strip_port_mode, proxy_100_continue,
            stream_error_on_invalid_http_message, add_user_agent,
        }
        ignore {
            tracing: NO_SPANS,
            http1_safe_max_connection_duration: "a connection is closed between requests only",
            http3_protocol_options: "it matters only with HTTP/3, which is refused",
            stream_flush_timeout: "it is a matter of Envoy's buffers",
            drain_timeout: "the last GOAWAY is sent when the client has answered the ping after the first, at the latest after 5 s",
            drain_timeout_jitter: "connections drain at once",
            delayed_close_timeout: "it is a matter of Envoy's buffers",
            access_log_flush_interval: ONE_LINE,
            flush_access_log_on_new_request: ONE_LINE,
            access_log_options: ONE_LINE,
            append_local_overload: "there is no overload manager",
        }
        refuse {
            scheme_header_transformation, original_ip_detection_extensions,
            early_header_mutation_extensions, forward_client_cert_matcher,
            represent_ipv4_remote_address_as_ipv4_mapped_ipv6, local_reply_config, path_normalization_options,
            strip_trailing_host_dot, proxy_status_config, typed_header_validation_config, append_x_forwarded_port,
            add_proxy_protocol_connection_state, forward_proto_config,
        }
    }
    optional(&at.field("request_id_extension"), request_id_extension.as_ref(), request_id)?;
    let (chain, routes) = at.both(decode_chain(at, http_filters), routes(at, route_specifier.as_ref()))?;
    let mut model = HttpConnectionManager::new(stat_prefix, routes);
    model.forward_client_cert =
        forward_client_cert(at, *forward_client_cert_details, set_current_client_cert_details.as_ref())?;
    model.codec_type = codec(at, *codec_type)?;
    model.http_filters = chain.filters;
    model.peer_metadata = chain.peer_metadata;
    model.envoy_headers = !chain.suppress_envoy_headers;
    model.access_log = list(at, "access_log", access_log, access_log::decode)?;
    let internal =
        optional(&at.field("internal_address_config"), internal_address_config.as_ref(), internal_addresses)?;
    model.forwarded_for.use_remote_address = use_remote_address.unwrap_or(false);
    model.forwarded_for.xff_num_trusted_hops = *xff_num_trusted_hops;
    model.forwarded_for.skip_xff_append = *skip_xff_append;
    model.forwarded_for.internal_addresses = internal.unwrap_or_default();
    model.generate_request_id = generate_request_id.unwrap_or(true);
    model.preserve_external_request_id = *preserve_external_request_id;
    model.always_set_request_id_in_response = *always_set_request_id_in_response;
    if !server_name.is_empty() {
        model.server_name = header_value(&at.field("server_name"), server_name)?;
    }
    model.server_header_transformation = server_header(at, *server_header_transformation)?;
    model.add_user_agent = add_user_agent.unwrap_or(false);
    model.via = (!via.is_empty()).then(|| header_value(&at.field("via"), via)).transpose()?;
    model.path_normalization.normalize_path = normalize_path.unwrap_or(false);
    model.path_normalization.merge_slashes = *merge_slashes;
    model.path_normalization.path_with_escaped_slashes_action = escaped_slashes(at, *path_with_escaped_slashes_action)?;
    model.strip_matching_host_port = *strip_matching_host_port;
    model.strip_any_host_port = matches!(strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)));
    if model.strip_matching_host_port && model.strip_any_host_port {
        return Err(at.field("strip_any_host_port").refuse("cannot be given together with strip_matching_host_port"));
    }
    model.proxy_100_continue = *proxy_100_continue;
    model.upgrade_configs = list(at, "upgrade_configs", upgrade_configs, upgrade)?;
    unique_upgrades(at, &model.upgrade_configs)?;
    model.stream_idle_timeout =
        limit(&at.field("stream_idle_timeout"), stream_idle_timeout.as_ref(), model.stream_idle_timeout)?;
    model.request_timeout = limit(&at.field("request_timeout"), request_timeout.as_ref(), None)?;
    model.request_headers_timeout =
        limit(&at.field("request_headers_timeout"), request_headers_timeout.as_ref(), None)?;
    let header_limit = max_request_headers_kb.unwrap_or(model.max_request_headers_kb);
    model.max_request_headers_kb = in_range(&at.field("max_request_headers_kb"), header_limit, 1, 8192)?;
    let options =
        (common_http_protocol_options.as_ref(), http_protocol_options.as_ref(), http2_protocol_options.as_ref());
    model.http1.override_stream_error_on_invalid_http_message = stream_error_on_invalid_http_message.unwrap_or(false);
    set_protocol_options(at, &mut model, options)?;
    Ok(model)
}

/// Why options of intermediate log lines have no effect.
const ONE_LINE: &str = "a request has one log line, at its end";

type ProtocolOptions<'a> =
    (Option<&'a HttpProtocolOptions>, Option<&'a Http1ProtocolOptions>, Option<&'a Http2ProtocolOptions>);

fn set_protocol_options(
    at: &At<'_>,
    model: &mut HttpConnectionManager,
    (common, http1, http2): ProtocolOptions<'_>,
) -> Result<()> {
    if let Some(common) = common {
        let at = at.field("common_http_protocol_options");
        let common = protocol_options::common(&at, common)?;
        if common.max_response_headers_kb.is_some() {
            at.field("max_response_headers_kb").ignore("it has an effect in a cluster only");
        }
        model.idle_timeout = common.idle_timeout;
        model.max_connection_duration = common.max_connection_duration;
        model.max_stream_duration = common.max_stream_duration;
        model.max_requests_per_connection = common.max_requests_per_connection;
        model.headers_with_underscores_action = common.headers_with_underscores_action;
        model.max_headers_count = common.max_headers_count.unwrap_or(model.max_headers_count);
    }
    if let Some(http1) = http1 {
        let stream_error = model.http1.override_stream_error_on_invalid_http_message;
        let http1 = http1_options::downstream(&at.field("http_protocol_options"), http1, stream_error)?;
        model.http1 = http1.options;
        model.accept_http_10 = http1.accept_http_10;
    }
    if let Some(http2) = http2 {
        let limits = protocol_options::http2(&at.field("http2_protocol_options"), http2)?;
        model.max_concurrent_streams = limits.max_concurrent_streams;
        model.initial_stream_window_size = limits.initial_stream_window_size;
        model.initial_connection_window_size = limits.initial_connection_window_size;
        model.allow_connect = limits.allow_connect;
        model.connection_keepalive = limits.connection_keepalive;
    }
    Ok(())
}

fn internal_addresses(at: &At<'_>, config: &InternalAddressConfig) -> Result<Vec<IpNet>> {
    fields! {
        InternalAddressConfig = config, at;
        use { cidr_ranges }
        ignore { unix_sockets: "requests come over TCP only" }
        refuse {}
    }
    list(at, "cidr_ranges", cidr_ranges, network)
}

fn routes(at: &At<'_>, specifier: Option<&RouteSpecifier>) -> Result<RouteSource> {
    match specifier {
        Some(RouteSpecifier::RouteConfig(config)) => {
            let routes = route_configuration::decode(&at.field("route_config"), config)?;
            Ok(RouteSource::Inline(Arc::new(routes)))
        }
        Some(RouteSpecifier::Rds(Rds { config_source, route_config_name })) => {
            let at = at.field("rds");
            let source_at = at.field("config_source");
            let source = required(&source_at, config_source.as_ref())?;
            if route_config_name.is_empty() {
                return Err(at.field("route_config_name").refuse("is empty"));
            }
            let name = config_source::name_in_store(&source_at, source, route_config_name)?;
            Ok(RouteSource::Rds(name.as_ref().into()))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(at.field("scoped_routes").refuse("not supported")),
        None => Err(at.refuse("none of route_config and rds is given")),
    }
}

fn codec(at: &At<'_>, value: i32) -> Result<Codec> {
    let at = at.field("codec_type");
    match enumeration(&at, value)? {
        CodecType::Auto => Ok(Codec::Auto),
        CodecType::Http1 => Ok(Codec::Http1),
        CodecType::Http2 => Ok(Codec::Http2),
        CodecType::Http3 => Err(at.refuse("HTTP3: not supported")),
    }
}

fn server_header(at: &At<'_>, value: i32) -> Result<ServerHeader> {
    Ok(match enumeration(&at.field("server_header_transformation"), value)? {
        ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
        ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
        ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
    })
}

fn forward_client_cert(
    at: &At<'_>,
    mode: i32,
    details: Option<&SetCurrentClientCertDetails>,
) -> Result<ForwardClientCert> {
    let mut model = ForwardClientCert::default();
    model.forward_client_cert_details = match enumeration(&at.field("forward_client_cert_details"), mode)? {
        ForwardClientCertDetails::Sanitize => ModelForwardDetails::Sanitize,
        ForwardClientCertDetails::ForwardOnly => ModelForwardDetails::ForwardOnly,
        ForwardClientCertDetails::AppendForward => ModelForwardDetails::AppendForward,
        ForwardClientCertDetails::SanitizeSet => ModelForwardDetails::SanitizeSet,
        ForwardClientCertDetails::AlwaysForwardOnly => ModelForwardDetails::AlwaysForwardOnly,
    };
    let Some(details) = details else { return Ok(model) };
    let at = at.field("set_current_client_cert_details");
    fields! {
        SetCurrentClientCertDetails = details, at;
        use { subject, cert, chain, dns, uri }
        ignore {}
        refuse { issuer, format }
    }
    model.set_current_client_cert_details =
        ClientCertDetails { cert: *cert, chain: *chain, subject: subject.unwrap_or_default(), uri: *uri, dns: *dns };
    Ok(model)
}

fn escaped_slashes(at: &At<'_>, value: i32) -> Result<EscapedSlashes> {
    use PathWithEscapedSlashesAction as Action;
    Ok(match enumeration(&at.field("path_with_escaped_slashes_action"), value)? {
        // As in Envoy, unless the runtime says otherwise.
        Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::KeepUnchanged,
        Action::RejectRequest => EscapedSlashes::RejectRequest,
        Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
        Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
    })
}

/// Request ids are UUIDs; Envoy's marks of a trace decision in them are not set.
fn request_id(at: &At<'_>, extension: &RequestIdExtension) -> Result<()> {
    let RequestIdExtension { typed_config } = extension;
    let at = at.field("typed_config");
    let config = required(&at, typed_config.as_ref())?;
    fields! {
        UuidRequestIdConfig = &unpack(&at, config)?, at;
        use {}
        ignore {
            pack_trace_reason: "no spans are exported",
            use_request_id_for_trace_sampling: "no spans are exported",
        }
        refuse {}
    }
    Ok(())
}

fn upgrade(at: &At<'_>, config: &ProtoUpgradeConfig) -> Result<UpgradeConfig> {
    fields! {
        ProtoUpgradeConfig = config, at;
        use { upgrade_type, enabled }
        ignore {}
        refuse { filters }
    }
    let mut model = UpgradeConfig::new(upgrade_type);
    model.enabled = enabled.unwrap_or(true);
    Ok(model)
}
