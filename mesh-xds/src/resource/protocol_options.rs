//! Protocol options of connections: HTTP versions, limits, flow-control windows, TCP keep-alive. Upstream connections have
//! the options of a cluster, downstream connections those of a connection manager.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use mesh_core::model::{HeadersWithUnderscoresAction, Http2Keepalive, HttpProtocol, HttpProtocolOptions, TcpKeepalive};
use prost_types::Any;

use super::field::{At, Result, fields};
use super::http1_options;
use super::value::{duration, enumeration, in_range, limit, optional, share, unpack};
use crate::proto::envoy::config::cluster::v3::{UpstreamConnectionOptions, cluster::ClusterProtocolSelection};
use crate::proto::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttpProtocolOptions, KeepaliveSettings,
    TcpKeepalive as ProtoTcpKeepalive, UpstreamHttpProtocolOptions,
    http_protocol_options::HeadersWithUnderscoresAction as ProtoUnderscoresAction,
};
use crate::proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions as UpstreamOptions,
    http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};

/// The key of the HTTP options in `typed_extension_protocol_options`.
pub(super) const UPSTREAM_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The HTTP options of a cluster. `typed` replaces all other fields.
pub(super) struct Source<'a> {
    pub(super) typed: &'a BTreeMap<String, Any>,
    pub(super) common: Option<&'a CommonHttpProtocolOptions>,
    pub(super) http1: Option<&'a Http1ProtocolOptions>,
    pub(super) http2: Option<&'a Http2ProtocolOptions>,
    pub(super) protocol_selection: i32,
    pub(super) max_requests_per_connection: Option<u32>,
}

/// Decodes the HTTP options of a cluster.
pub(super) fn decode(at: &At<'_>, source: &Source<'_>) -> Result<HttpProtocolOptions> {
    if let Some(name) = source.typed.keys().find(|name| *name != UPSTREAM_OPTIONS) {
        return Err(at.entry("typed_extension_protocol_options", name).refuse("not supported"));
    }
    if let Some(config) = source.typed.get(UPSTREAM_OPTIONS) {
        let at = at.entry("typed_extension_protocol_options", UPSTREAM_OPTIONS);
        return typed(&at, &unpack(&at, config)?);
    }
    let mut options = source.http2.map_or_else(HttpProtocolOptions::default, |_| http2_only());
    if let Some(common) = source.common {
        set_common(&at.field("common_http_protocol_options"), common, &mut options)?;
    }
    if let Some(http1) = source.http1 {
        options.http1 = http1_options::upstream(&at.field("http_protocol_options"), http1)?;
    }
    if let Some(http2) = source.http2 {
        set_http2(&at.field("http2_protocol_options"), http2, &mut options)?;
    }
    if let Some(count) = source.max_requests_per_connection {
        options.max_requests_per_connection = NonZeroU32::new(count);
    }
    match enumeration(&at.field("protocol_selection"), source.protocol_selection)? {
        ClusterProtocolSelection::UseConfiguredProtocol => {}
        ClusterProtocolSelection::UseDownstreamProtocol => options.protocol = HttpProtocol::UseDownstream,
    }
    Ok(options)
}

fn typed(at: &At<'_>, value: &UpstreamOptions) -> Result<HttpProtocolOptions> {
    fields! {
        UpstreamOptions = value, at;
        use { common_http_protocol_options, upstream_protocol_options, upstream_http_protocol_options }
        ignore { hash_policy: "it has an effect on ring hash and maglev clusters only, which are refused" }
        refuse {
            http_filters, header_validation_config, outlier_detection, request_mirror_policies, retry_policy,
        }
    }
    let mut options = HttpProtocolOptions::default();
    let (http1, http2) = match upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config })) => {
            let at = at.field("explicit_http_config");
            match protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(http1)) => (Some(http1), None),
                Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                    options = http2_only();
                    (None, Some(http2))
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    return Err(at.field("http3_protocol_options").refuse("not supported"));
                }
                None => return Err(at.refuse("no protocol is given")),
            }
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            if config.http3_protocol_options.is_some() {
                let at = at.field("use_downstream_protocol_config");
                return Err(at.field("http3_protocol_options").refuse("not supported"));
            }
            options.protocol = HttpProtocol::UseDownstream;
            (config.http_protocol_options.as_ref(), config.http2_protocol_options.as_ref())
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            return Err(at.field("auto_config").refuse("not supported: it needs TLS to negotiate the protocol"));
        }
        None => return Err(at.refuse("none of explicit_http_config and use_downstream_protocol_config is given")),
    };
    if let Some(names) = upstream_http_protocol_options {
        let at = at.field("upstream_http_protocol_options");
        fields! {
            UpstreamHttpProtocolOptions = names, at;
            use { auto_sni, auto_san_validation }
            ignore {}
            refuse { override_auto_sni_header }
        }
        if *auto_san_validation && !*auto_sni {
            return Err(at.field("auto_san_validation").refuse("true: only together with auto_sni"));
        }
        (options.auto_sni, options.auto_san_validation) = (*auto_sni, *auto_san_validation);
    }
    if let Some(common) = common_http_protocol_options {
        set_common(&at.field("common_http_protocol_options"), common, &mut options)?;
    }
    if let Some(http1) = http1 {
        options.http1 = http1_options::upstream(&at.field("http_protocol_options"), http1)?;
    }
    if let Some(http2) = http2 {
        set_http2(&at.field("http2_protocol_options"), http2, &mut options)?;
    }
    Ok(options)
}

/// The defaults of a cluster with HTTP/2.
fn http2_only() -> HttpProtocolOptions {
    let mut options = HttpProtocolOptions::default();
    options.protocol = HttpProtocol::Http2;
    options
}

fn set_common(at: &At<'_>, value: &CommonHttpProtocolOptions, options: &mut HttpProtocolOptions) -> Result<()> {
    let common = common(at, value)?;
    if common.max_stream_duration.is_some() {
        return Err(at.field("max_stream_duration").refuse("not supported in a cluster"));
    }
    if common.headers_with_underscores_action != HeadersWithUnderscoresAction::Allow {
        at.field("headers_with_underscores_action").ignore("it has an effect in a connection manager only");
    }
    options.idle_timeout = common.idle_timeout;
    options.max_connection_duration = common.max_connection_duration;
    options.max_requests_per_connection = common.max_requests_per_connection;
    options.max_headers_count = common.max_headers_count.unwrap_or(options.max_headers_count);
    options.max_response_headers_kb = common.max_response_headers_kb;
    Ok(())
}

/// Options that all HTTP versions have.
pub(super) struct Common {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connection_duration: Option<Duration>,
    pub(super) max_stream_duration: Option<Duration>,
    pub(super) max_headers_count: Option<u32>,
    pub(super) max_response_headers_kb: Option<u32>,
    pub(super) max_requests_per_connection: Option<NonZeroU32>,
    pub(super) headers_with_underscores_action: HeadersWithUnderscoresAction,
}

/// Decodes the options that all HTTP versions have.
pub(super) fn common(at: &At<'_>, value: &CommonHttpProtocolOptions) -> Result<Common> {
    fields! {
        CommonHttpProtocolOptions = value, at;
        use {
            idle_timeout, max_connection_duration, max_headers_count, max_stream_duration,
            max_requests_per_connection, max_response_headers_kb, headers_with_underscores_action,
        }
        ignore {}
        refuse { max_connection_duration_jitter }
    }
    let underscores_at = at.field("headers_with_underscores_action");
    let (count_at, size_at) = (at.field("max_headers_count"), at.field("max_response_headers_kb"));
    Ok(Common {
        idle_timeout: limit(&at.field("idle_timeout"), idle_timeout.as_ref(), Some(Duration::from_secs(3600)))?,
        max_connection_duration: limit(&at.field("max_connection_duration"), max_connection_duration.as_ref(), None)?,
        max_stream_duration: limit(&at.field("max_stream_duration"), max_stream_duration.as_ref(), None)?,
        max_headers_count: optional(&count_at, max_headers_count.as_ref(), |at, count| {
            in_range(at, *count, 1, u32::MAX)
        })?,
        max_response_headers_kb: optional(&size_at, max_response_headers_kb.as_ref(), |at, size| {
            in_range(at, *size, 1, 8192)
        })?,
        max_requests_per_connection: max_requests_per_connection.and_then(NonZeroU32::new),
        headers_with_underscores_action: match enumeration(&underscores_at, *headers_with_underscores_action)? {
            ProtoUnderscoresAction::Allow => HeadersWithUnderscoresAction::Allow,
            ProtoUnderscoresAction::RejectRequest => HeadersWithUnderscoresAction::RejectRequest,
            ProtoUnderscoresAction::DropHeader => HeadersWithUnderscoresAction::DropHeader,
        },
    })
}

fn set_http2(at: &At<'_>, value: &Http2ProtocolOptions, options: &mut HttpProtocolOptions) -> Result<()> {
    let limits = http2(at, value)?;
    options.max_concurrent_streams = limits.max_concurrent_streams;
    options.initial_stream_window_size = limits.initial_stream_window_size;
    options.initial_connection_window_size = limits.initial_connection_window_size;
    options.connection_keepalive = limits.connection_keepalive;
    Ok(())
}

/// HTTP/2 limits.
pub(super) struct Http2Limits {
    pub(super) max_concurrent_streams: u32,
    pub(super) initial_stream_window_size: u32,
    pub(super) initial_connection_window_size: u32,
    pub(super) connection_keepalive: Option<Http2Keepalive>,
    /// Of listeners only. To endpoints, extended CONNECT is sent if a request needs it, as in Envoy.
    pub(super) allow_connect: bool,
}

/// Why Envoy's flood limits have no effect.
const FLOOD: &str = "the HTTP/2 implementation has flood limits of its own";

/// Decodes HTTP/2 limits.
pub(super) fn http2(at: &At<'_>, value: &Http2ProtocolOptions) -> Result<Http2Limits> {
    fields! {
        Http2ProtocolOptions = value, at;
        use {
            max_concurrent_streams, initial_stream_window_size, initial_connection_window_size, connection_keepalive,
            allow_connect,
        }
        ignore {
            hpack_table_size: "the header table has its default size",
            max_outbound_frames: FLOOD,
            max_outbound_control_frames: FLOOD,
            max_consecutive_inbound_frames_with_empty_payload: FLOOD,
            max_inbound_priority_frames_per_stream: FLOOD,
            max_inbound_window_update_frames_per_data_frame_sent: FLOOD,
            stream_error_on_invalid_http_messaging: "an invalid message resets its stream only",
            override_stream_error_on_invalid_http_message: "an invalid message resets its stream only",
            use_oghttp2_codec: "it selects an implementation in Envoy",
            enable_huffman_encoding: "the HTTP/2 implementation decides",
            stream_reset_burst: FLOOD,
            stream_reset_rate: FLOOD,
        }
        refuse {
            allow_metadata, custom_settings_parameters, max_metadata_size,
            max_header_field_size_kb, disallow_obs_text,
        }
    }
    const MAX_WINDOW: u32 = (1 << 31) - 1;
    let window =
        |name, value: Option<u32>, default| in_range(&at.field(name), value.unwrap_or(default), 65_535, MAX_WINDOW);
    let defaults = HttpProtocolOptions::default();
    let streams = max_concurrent_streams.unwrap_or(defaults.max_concurrent_streams);
    Ok(Http2Limits {
        allow_connect: *allow_connect,
        max_concurrent_streams: in_range(&at.field("max_concurrent_streams"), streams, 1, MAX_WINDOW)?,
        initial_stream_window_size: window(
            "initial_stream_window_size",
            *initial_stream_window_size,
            defaults.initial_stream_window_size,
        )?,
        initial_connection_window_size: window(
            "initial_connection_window_size",
            *initial_connection_window_size,
            defaults.initial_connection_window_size,
        )?,
        connection_keepalive: optional(&at.field("connection_keepalive"), connection_keepalive.as_ref(), keepalive)?,
    })
}

fn keepalive(at: &At<'_>, value: &KeepaliveSettings) -> Result<Http2Keepalive> {
    let KeepaliveSettings { interval, timeout, interval_jitter, connection_idle_interval } = value;
    let at_least_a_millisecond = |name, value: &Option<_>| {
        optional(&at.field(name), value.as_ref(), |at, value| match duration(at, value)? {
            duration if duration < Duration::from_millis(1) => Err(at.refuse("it is less than 1 ms")),
            duration => Ok(duration),
        })
    };
    let timeout = at_least_a_millisecond("timeout", timeout)?;
    let timeout = timeout.ok_or_else(|| at.field("timeout").refuse("it is missing"))?;
    let mut keepalive = Http2Keepalive::with_timeout(timeout);
    keepalive.interval = at_least_a_millisecond("interval", interval)?;
    keepalive.connection_idle_interval = at_least_a_millisecond("connection_idle_interval", connection_idle_interval)?;
    if let Some(jitter) = interval_jitter {
        keepalive.interval_jitter = share(&at.field("interval_jitter"), jitter)?;
    }
    Ok(keepalive)
}

/// Decodes the TCP keep-alive of upstream connections.
pub(super) fn tcp_keepalive(at: &At<'_>, options: &UpstreamConnectionOptions) -> Result<Option<TcpKeepalive>> {
    fields! {
        UpstreamConnectionOptions = options, at;
        use { tcp_keepalive }
        ignore {
            set_local_interface_name_on_upstream_connections: "no policy uses the interface name",
            happy_eyeballs_config: "an endpoint has one address",
        }
        refuse {}
    }
    optional(&at.field("tcp_keepalive"), tcp_keepalive.as_ref(), |at, keepalive| {
        let ProtoTcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = keepalive;
        let seconds = |value: &Option<u32>| value.filter(|s| *s > 0).map(|s| Duration::from_secs(u64::from(s)));
        let probes = optional(&at.field("keepalive_probes"), keepalive_probes.as_ref(), |at, probes| {
            u16::try_from(*probes).map_err(|_| at.refuse(format_args!("{probes} is not in 0..=65535")))
        })?;
        Ok(TcpKeepalive {
            keepalive_probes: probes.and_then(NonZeroU16::new),
            keepalive_time: seconds(keepalive_time),
            keepalive_interval: seconds(keepalive_interval),
        })
    })
}
