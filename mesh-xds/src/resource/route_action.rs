//! `envoy.config.route.v3.RouteAction` and `RedirectAction`.

use std::sync::Arc;

use http::StatusCode;
use mesh_core::model::{
    ClusterSpecifier, ConnectConfig, HostRewrite, MaxStreamDuration, PathRedirect, PathRewrite, Redirect, RouteAction,
    RoutingPriority, SafeRegex, UpgradeConfig, WeightedCluster, WeightedClusters,
};
use prost_types::Duration as ProtoDuration;

use super::field::{At, Result, fields};
use super::value::{
    NO_RUNTIME, duration, enumeration, header_key, header_name, header_value, list, optional, regex, required,
};
use super::{header, retry};
use crate::filter::{decode_overrides, refuse_deprecated_cors};
use crate::proto::envoy::config::core::v3::RoutingPriority as ProtoPriority;
use crate::proto::envoy::config::route::v3::{
    RedirectAction, RouteAction as ProtoRouteAction, WeightedCluster as ProtoWeightedCluster,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    route_action::{
        ClusterNotFoundResponseCode, ClusterSpecifier as ProtoClusterSpecifier, HostRewriteSpecifier,
        MaxStreamDuration as ProtoMaxStreamDuration, UpgradeConfig as ProtoUpgradeConfig,
        upgrade_config::ConnectConfig as ProtoConnectConfig,
    },
    weighted_cluster::{ClusterWeight, RandomValueSpecifier, cluster_weight},
};
use crate::proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

/// Decodes a forwarding action.
pub(super) fn decode(at: &At<'_>, action: &ProtoRouteAction) -> Result<RouteAction> {
    fields! {
        ProtoRouteAction = action, at;
        use {
            cluster_not_found_response_code, prefix_rewrite, regex_rewrite, append_x_forwarded_host, timeout,
            idle_timeout, retry_policy, priority, max_grpc_timeout, grpc_timeout_offset, upgrade_configs,
            max_stream_duration, cluster_specifier, host_rewrite_specifier, cors,
        }
        ignore {
            hash_policy: "it has an effect on ring hash and maglev clusters only, which are refused",
            flush_timeout: "it tunes Envoy's buffers",
            early_data_policy: "there is no TLS early data",
            max_internal_redirects: "it has an effect on internal redirects only, which are refused",
        }
        refuse {
            metadata_match, path_rewrite_policy, path_rewrite, retry_policy_typed_config, request_mirror_policies,
            rate_limits, include_vh_rate_limits, internal_redirect_policy, internal_redirect_action,
            hedge_policy,
        }
    }
    refuse_deprecated_cors(at, cors.as_ref())?;
    let retry_at = at.field("retry_policy");
    let grpc_timeout = GrpcTimeout { max: max_grpc_timeout.as_ref(), offset: grpc_timeout_offset.as_ref() };
    let mut model = RouteAction::new(cluster(at, cluster_specifier.as_ref())?);
    model.cluster_not_found_response_code = cluster_not_found(at, *cluster_not_found_response_code)?;
    model.path_rewrite = rewritten_path(at, prefix_rewrite, regex_rewrite.as_ref())?;
    model.host_rewrite = host_rewrite(at, host_rewrite_specifier.as_ref())?;
    model.append_x_forwarded_host = *append_x_forwarded_host;
    model.timeout = optional(&at.field("timeout"), timeout.as_ref(), duration)?.unwrap_or(model.timeout);
    model.idle_timeout = optional(&at.field("idle_timeout"), idle_timeout.as_ref(), duration)?;
    model.retry_policy =
        retry_policy.as_ref().map(|policy| retry::decode(&retry_at, policy)).transpose()?.map(Arc::new);
    model.max_stream_duration = stream_duration(at, max_stream_duration.as_ref(), &grpc_timeout)?;
    model.priority = match enumeration(&at.field("priority"), *priority)? {
        ProtoPriority::Default => RoutingPriority::Default,
        ProtoPriority::High => RoutingPriority::High,
    };
    model.upgrade_configs = list(at, "upgrade_configs", upgrade_configs, upgrade)?;
    unique_upgrades(at, &model.upgrade_configs)?;
    let connect = list(at, "upgrade_configs", upgrade_configs, connect_config)?;
    model.connect_config = connect.into_iter().flatten().next();
    Ok(model)
}

fn cluster(at: &At<'_>, specifier: Option<&ProtoClusterSpecifier>) -> Result<ClusterSpecifier> {
    match specifier {
        Some(ProtoClusterSpecifier::Cluster(name)) if name.is_empty() => Err(at.field("cluster").refuse("is empty")),
        Some(ProtoClusterSpecifier::Cluster(name)) => Ok(ClusterSpecifier::Cluster(name.as_str().into())),
        Some(ProtoClusterSpecifier::ClusterHeader(name)) => {
            header_key(&at.field("cluster_header"), name).map(ClusterSpecifier::ClusterHeader)
        }
        Some(ProtoClusterSpecifier::WeightedClusters(clusters)) => {
            weighted_clusters(&at.field("weighted_clusters"), clusters).map(ClusterSpecifier::Weighted)
        }
        Some(ProtoClusterSpecifier::ClusterSpecifierPlugin(name)) => {
            Err(at.field("cluster_specifier_plugin").refuse(format_args!("{name:?}: not supported")))
        }
        Some(ProtoClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
            Err(at.field("inline_cluster_specifier_plugin").refuse("not supported"))
        }
        None => Err(at.refuse("none of cluster, cluster_header and weighted_clusters is given")),
    }
}

fn weighted_clusters(at: &At<'_>, value: &ProtoWeightedCluster) -> Result<WeightedClusters> {
    fields! {
        ProtoWeightedCluster = value, at;
        use { clusters, total_weight, random_value_specifier }
        ignore { runtime_key_prefix: NO_RUNTIME }
        refuse {}
    }
    let mut clusters = WeightedClusters::new(list(at, "clusters", clusters, weighted_cluster)?);
    clusters.header_name = match random_value_specifier {
        Some(RandomValueSpecifier::HeaderName(name)) => Some(header_name(&at.field("header_name"), name)?),
        Some(RandomValueSpecifier::UseHashPolicy(true)) => {
            return Err(at.field("use_hash_policy").refuse("not supported"));
        }
        Some(RandomValueSpecifier::UseHashPolicy(false)) | None => None,
    };
    let Some(sum) = clusters.total_weight() else {
        return Err(at.field("clusters").refuse("the sum of weights is not in 1..=4294967295"));
    };
    if total_weight.is_some_and(|total| total != sum.get()) {
        return Err(at.field("total_weight").refuse(format_args!("differs from the sum of weights, {sum}")));
    }
    Ok(clusters)
}

fn weighted_cluster(at: &At<'_>, value: &ClusterWeight) -> Result<WeightedCluster> {
    fields! {
        ClusterWeight = value, at;
        use {
            name, weight, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, typed_per_filter_config, host_rewrite_specifier,
        }
        ignore {}
        refuse { cluster_header, metadata_match }
    }
    if name.is_empty() {
        return Err(at.field("name").refuse("is empty"));
    }
    let host_at = at.field("host_rewrite_literal");
    let mut model = WeightedCluster::new(name.as_str(), weight.unwrap_or(0));
    model.request_headers = header::request_mutations(at, request_headers_to_add, request_headers_to_remove)?;
    model.response_headers = header::response_mutations(at, response_headers_to_add, response_headers_to_remove)?;
    model.host_rewrite_literal = host_rewrite_specifier
        .as_ref()
        .map(|cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)| header_value(&host_at, host))
        .transpose()?;
    model.typed_per_filter_config = decode_overrides(at, typed_per_filter_config)?;
    Ok(model)
}

fn cluster_not_found(at: &At<'_>, code: i32) -> Result<StatusCode> {
    Ok(match enumeration(&at.field("cluster_not_found_response_code"), code)? {
        ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
        ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

fn rewritten_path(at: &At<'_>, prefix: &str, regex: Option<&RegexMatchAndSubstitute>) -> Result<PathRewrite> {
    match (prefix, regex) {
        ("", None) => Ok(PathRewrite::None),
        ("", Some(rewrite)) => {
            let (pattern, substitution) = regex_rewrite(&at.field("regex_rewrite"), rewrite)?;
            Ok(PathRewrite::Regex { pattern, substitution })
        }
        (prefix, None) => Ok(PathRewrite::Prefix(prefix.into())),
        (_, Some(_)) => Err(at.field("regex_rewrite").refuse("cannot be given together with prefix_rewrite")),
    }
}

fn regex_rewrite(at: &At<'_>, value: &RegexMatchAndSubstitute) -> Result<(SafeRegex, Box<str>)> {
    let RegexMatchAndSubstitute { pattern, substitution } = value;
    let pattern_at = at.field("pattern");
    let pattern = regex(&pattern_at, required(&pattern_at, pattern.as_ref())?)?;
    Ok((pattern, substitution.as_str().into()))
}

fn host_rewrite(at: &At<'_>, specifier: Option<&HostRewriteSpecifier>) -> Result<HostRewrite> {
    match specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            header_value(&at.field("host_rewrite_literal"), host).map(HostRewrite::Literal)
        }
        Some(HostRewriteSpecifier::HostRewrite(host)) => {
            header_value(&at.field("host_rewrite"), host).map(HostRewrite::Literal)
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(true)) => Ok(HostRewrite::Auto),
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            header_name(&at.field("host_rewrite_header"), name).map(HostRewrite::Header)
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            let (pattern, substitution) = regex_rewrite(&at.field("host_rewrite_path_regex"), rewrite)?;
            Ok(HostRewrite::PathRegex { pattern, substitution })
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(false)) | None => Ok(HostRewrite::None),
    }
}

/// Envoy's deprecated fields for `max_stream_duration`, which Istio still sends.
struct GrpcTimeout<'a> {
    max: Option<&'a ProtoDuration>,
    offset: Option<&'a ProtoDuration>,
}

fn stream_duration(
    at: &At<'_>,
    value: Option<&ProtoMaxStreamDuration>,
    old: &GrpcTimeout<'_>,
) -> Result<Option<MaxStreamDuration>> {
    let old_max = optional(&at.field("max_grpc_timeout"), old.max, duration)?;
    let old_offset = optional(&at.field("grpc_timeout_offset"), old.offset, duration)?;
    if value.is_none() && old_max.is_none() {
        return Ok(None);
    }
    let ProtoMaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } =
        value.copied().unwrap_or_default();
    let at = at.field("max_stream_duration");
    let max = optional(&at.field("max_stream_duration"), max_stream_duration.as_ref(), duration)?;
    let header_max = optional(&at.field("grpc_timeout_header_max"), grpc_timeout_header_max.as_ref(), duration)?;
    let offset = optional(&at.field("grpc_timeout_header_offset"), grpc_timeout_header_offset.as_ref(), duration)?;
    Ok(Some(MaxStreamDuration {
        max_stream_duration: max,
        grpc_timeout_header_max: header_max.or(old_max),
        grpc_timeout_header_offset: offset.or(old_offset).unwrap_or_default(),
    }))
}

fn upgrade(at: &At<'_>, config: &ProtoUpgradeConfig) -> Result<UpgradeConfig> {
    fields! {
        ProtoUpgradeConfig = config, at;
        use { upgrade_type, enabled, connect_config }
        ignore {}
        refuse {}
    }
    if connect_config.is_some() && !upgrade_type.eq_ignore_ascii_case("CONNECT") {
        return Err(at.field("connect_config").refuse(format_args!("{upgrade_type:?} is not CONNECT")));
    }
    let mut model = UpgradeConfig::new(upgrade_type);
    model.enabled = enabled.unwrap_or(true);
    Ok(model)
}

fn connect_config(at: &At<'_>, config: &ProtoUpgradeConfig) -> Result<Option<ConnectConfig>> {
    optional(&at.field("connect_config"), config.connect_config.as_ref(), |at, config| {
        fields! {
            ProtoConnectConfig = config, at;
            use { allow_post }
            ignore {}
            refuse { proxy_protocol_config }
        }
        let mut model = ConnectConfig::default();
        model.allow_post = *allow_post;
        Ok(model)
    })
}

/// Refuses several configurations of one upgrade type.
pub(super) fn unique_upgrades(at: &At<'_>, configs: &[UpgradeConfig]) -> Result<()> {
    for (index, config) in configs.iter().enumerate() {
        let is_same = |other: &UpgradeConfig| other.upgrade_type.eq_ignore_ascii_case(&config.upgrade_type);
        if configs[..index].iter().any(is_same) {
            let at = at.item("upgrade_configs", index);
            return Err(at.refuse(format_args!("{:?} occurs twice", config.upgrade_type)));
        }
    }
    Ok(())
}

/// Decodes a redirect.
pub(super) fn redirect(at: &At<'_>, action: &RedirectAction) -> Result<Redirect> {
    let RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = action;
    let scheme_redirect = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.as_str().into()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let port = u16::try_from(*port_redirect)
        .map_err(|_| at.field("port_redirect").refuse(format_args!("{port_redirect} is not in 0..=65535")))?;
    let mut model = Redirect::default();
    model.scheme_redirect = scheme_redirect;
    model.host_redirect = (!host_redirect.is_empty()).then(|| host_redirect.as_str().into());
    model.port_redirect = (port != 0).then_some(port);
    model.path = path_redirect(at, path_rewrite_specifier.as_ref())?;
    model.response_code = match enumeration(&at.field("response_code"), *response_code)? {
        RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
        RedirectResponseCode::Found => StatusCode::FOUND,
        RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
        RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
        RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
    };
    model.strip_query = *strip_query;
    Ok(model)
}

fn path_redirect(at: &At<'_>, specifier: Option<&PathRewriteSpecifier>) -> Result<PathRedirect> {
    Ok(match specifier {
        None => PathRedirect::Keep,
        Some(PathRewriteSpecifier::PathRedirect(path)) => PathRedirect::Path(path.as_str().into()),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => PathRedirect::Prefix(prefix.as_str().into()),
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            let (pattern, substitution) = regex_rewrite(&at.field("regex_rewrite"), rewrite)?;
            PathRedirect::Regex { pattern, substitution }
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(at.field("path_rewrite").refuse("not supported")),
    })
}
