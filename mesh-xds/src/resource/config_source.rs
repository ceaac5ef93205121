//! `envoy.config.core.v3.ConfigSource`: where the resources come from that a resource names.
//!
//! Most come from the stream that brought the resource itself. A name in the store stands for one resource, so that of a
//! resource from elsewhere contains the source: `file:NAME@PATH`, `grpc:NAME@CLUSTER`, `delta_grpc:NAME@CLUSTER`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::field::{At, Result, fields, is_set};
use super::value::{duration, enumeration, header_value, optional};
use crate::proto::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, GrpcService, HeaderValue as ProtoHeaderValue,
    api_config_source::ApiType, config_source::ConfigSourceSpecifier, grpc_service,
};

const IN_FILE: &str = "file:";
const OVER_GRPC: &str = "grpc:";
const OVER_DELTA_GRPC: &str = "delta_grpc:";

/// A source of resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The stream for all types of resources.
    Aggregated,
    /// A stream of its own.
    Grpc(ApiSource),
    /// A file with a discovery response, which is read again when it changes.
    File(Arc<str>),
}

/// A discovery service over gRPC. Envoy `core.v3.ApiConfigSource`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiSource {
    /// Name of the cluster at which it is.
    pub cluster: Arc<str>,
    /// `:authority` of its requests; `None` = the name of the cluster.
    pub authority: Option<Arc<str>>,
    /// Whether it uses the incremental variant of the protocol: Envoy `DELTA_GRPC`.
    pub is_incremental: bool,
    /// Header fields that are added to its requests.
    pub initial_metadata: Vec<(HeaderName, HeaderValue)>,
}

impl ApiSource {
    /// The service at a cluster.
    #[must_use]
    pub fn at_cluster(cluster: impl Into<Arc<str>>) -> Self {
        Self { cluster: cluster.into(), authority: None, is_incremental: false, initial_metadata: Vec::new() }
    }
}

/// Where a resource comes from, of its name in the store: its name there, and the source.
#[must_use]
pub fn elsewhere(name_in_store: &str) -> Option<(&str, Source)> {
    if let Some((name, path)) = in_file(name_in_store) {
        return Some((name, Source::File(path.into())));
    }
    let over_delta_grpc = name_in_store.strip_prefix(OVER_DELTA_GRPC);
    let (name, cluster) = over_delta_grpc.or_else(|| name_in_store.strip_prefix(OVER_GRPC))?.split_once('@')?;
    let api = ApiSource { is_incremental: over_delta_grpc.is_some(), ..ApiSource::at_cluster(cluster) };
    Some((name, Source::Grpc(api)))
}

/// The name of a resource and the path of its file, of its name in the store; `None` = it is not in a file.
pub(crate) fn in_file(name_in_store: &str) -> Option<(&str, &str)> {
    name_in_store.strip_prefix(IN_FILE)?.split_once('@')
}

/// The name in the store of the trust bundles in a file. No resource has an empty name.
pub(crate) fn bundles_in_file(path: &str) -> Arc<str> {
    format!("{IN_FILE}@{path}").into()
}

/// The name in the store of the resource `name` from `source`.
pub(crate) fn name_in_store(at: &At<'_>, source: &ConfigSource, name: &str) -> Result<Arc<str>> {
    let (source, timeout) = decode(at, source)?;
    if timeout.is_some() {
        at.field("initial_fetch_timeout").ignore("the timeout is 15 s");
    }
    let sources = at.sources();
    match source {
        Source::Aggregated if [IN_FILE, OVER_GRPC, OVER_DELTA_GRPC].iter().any(|prefix| name.starts_with(prefix)) => {
            let reason = format_args!(
                "a name that begins with {IN_FILE:?}, {OVER_GRPC:?} or {OVER_DELTA_GRPC:?} is not supported"
            );
            Err(at.refuse(reason))
        }
        Source::Aggregated => Ok(name.into()),
        Source::File(path) if sources.has_files() => Ok(format!("{IN_FILE}{name}@{path}").into()),
        Source::File(_) => Err(at.refuse("a file: only resources of a bootstrap may name files")),
        Source::Grpc(api) if api.authority.is_some() || !api.initial_metadata.is_empty() => {
            let at = at.field("api_config_source");
            Err(at.item("grpc_services", 0).refuse("authority and initial_metadata are supported in ads_config only"))
        }
        Source::Grpc(api) if sources.has_cluster(&api.cluster) => {
            let prefix = if api.is_incremental { OVER_DELTA_GRPC } else { OVER_GRPC };
            Ok(format!("{prefix}{name}@{}", api.cluster).into())
        }
        Source::Grpc(_) if !sources.has_clusters() => Err(at.refuse("only ads and self are supported")),
        Source::Grpc(api) => {
            let at = at.field("api_config_source");
            let at = at.item("grpc_services", 0);
            let at = at.field("envoy_grpc");
            Err(at.field("cluster_name").refuse(format_args!("there is no cluster {:?} in the bootstrap", api.cluster)))
        }
    }
}

/// Decodes a source and its `initial_fetch_timeout`, if it has one.
pub(crate) fn decode(at: &At<'_>, source: &ConfigSource) -> Result<(Source, Option<Duration>)> {
    fields! {
        ConfigSource = source, at;
        use { config_source_specifier, initial_fetch_timeout }
        ignore { resource_api_version: "only version 3 is supported" }
        refuse { authorities }
    }
    let timeout = optional(&at.field("initial_fetch_timeout"), initial_fetch_timeout.as_ref(), duration)?;
    let source = match config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Source::Aggregated,
        Some(ConfigSourceSpecifier::ApiConfigSource(source)) => {
            Source::Grpc(api_source(&at.field("api_config_source"), source)?)
        }
        Some(ConfigSourceSpecifier::Path(path)) => file(&at.field("path"), path)?,
        Some(ConfigSourceSpecifier::PathConfigSource(source)) => {
            let at = at.field("path_config_source");
            if source.watched_directory.is_some() {
                at.field("watched_directory").ignore("the file is read every second");
            }
            file(&at.field("path"), &source.path)?
        }
        None => return Err(at.refuse("no source is given")),
    };
    Ok((source, timeout))
}

fn file(at: &At<'_>, path: &str) -> Result<Source> {
    if path.is_empty() { Err(at.refuse("is empty")) } else { Ok(Source::File(path.into())) }
}

/// Decodes a discovery service.
pub(crate) fn api_source(at: &At<'_>, source: &ApiConfigSource) -> Result<ApiSource> {
    fields! {
        ApiConfigSource = source, at;
        use { api_type, transport_api_version, cluster_names, grpc_services, set_node_on_first_message_only }
        ignore {
            refresh_delay: "it has an effect on REST only",
            request_timeout: "it has an effect on REST only",
            rate_limit_settings: "a request follows each response; there is no limit",
        }
        refuse { config_validators }
    }
    // The node is in the first message of a stream, as the protocol has it, whatever the value is.
    let _ = set_node_on_first_message_only;
    let type_at = at.field("api_type");
    let is_incremental = match enumeration::<ApiType>(&type_at, *api_type)? {
        ApiType::Grpc => false,
        ApiType::DeltaGrpc => true,
        other => {
            let reason = format_args!("{}: not supported, GRPC and DELTA_GRPC are", other.as_str_name());
            return Err(type_at.refuse(reason));
        }
    };
    if enumeration::<ApiVersion>(&at.field("transport_api_version"), *transport_api_version)? != ApiVersion::V3 {
        return Err(at.field("transport_api_version").refuse("must be V3"));
    }
    if !cluster_names.is_empty() {
        return Err(at.field("cluster_names").refuse("must be empty for GRPC; grpc_services names the cluster"));
    }
    match &grpc_services[..] {
        [service] => {
            let api = grpc_service(&at.item("grpc_services", 0), service)?;
            Ok(ApiSource { is_incremental, ..api })
        }
        services => {
            let number = services.len();
            Err(at.field("grpc_services").refuse(format_args!("there must be one service, not {number}")))
        }
    }
}

fn grpc_service(at: &At<'_>, service: &GrpcService) -> Result<ApiSource> {
    use grpc_service::TargetSpecifier;
    fields! {
        GrpcService = service, at;
        use { timeout, initial_metadata, target_specifier }
        ignore { retry_policy: "a stream that ends is opened again, after a growing pause" }
        refuse {}
    }
    if is_set(timeout) {
        at.field("timeout").ignore("a stream of discovery requests has no timeout");
    }
    let envoy_grpc = match target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy_grpc)) => envoy_grpc,
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            return Err(at.field("google_grpc").refuse("not supported, envoy_grpc is"));
        }
        None => return Err(at.refuse("no target is given")),
    };
    let at_grpc = at.field("envoy_grpc");
    fields! {
        grpc_service::EnvoyGrpc = envoy_grpc, at_grpc;
        use { cluster_name, authority }
        ignore {
            retry_policy: "a stream that ends is opened again, after a growing pause",
            skip_envoy_headers: "no headers of Envoy's are added",
        }
        refuse { max_receive_message_length }
    }
    let mut api = ApiSource::at_cluster(cluster_name.as_str());
    if is_set(authority) {
        header_value(&at_grpc.field("authority"), authority)?;
        api.authority = Some(authority.as_str().into());
    }
    for (index, header) in initial_metadata.iter().enumerate() {
        let at = at.item("initial_metadata", index);
        let ProtoHeaderValue { key, value, raw_value } = header;
        let name = key.to_ascii_lowercase().parse::<HeaderName>();
        let name = name.map_err(|_| at.field("key").refuse(format_args!("{key:?} is not the name of a header")))?;
        let value = if raw_value.is_empty() {
            header_value(&at.field("value"), value)?
        } else {
            let invalid = |_| at.field("raw_value").refuse("is not a header value");
            HeaderValue::from_bytes(raw_value).map_err(invalid)?
        };
        api.initial_metadata.push((name, value));
    }
    Ok(api)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::field::Notes;
    use crate::decode::sources::Sources;

    fn named(source: &str, sources: Sources) -> std::result::Result<String, String> {
        let source: ConfigSource = crate::json::from_text(source, "test").unwrap();
        let notes = Notes::with_sources(sources);
        let name = name_in_store(&At::root(&notes), &source, "own");
        name.map(|name| name.to_string()).map_err(|error| error.to_string())
    }

    const GRPC: &str = "{api_config_source: {api_type: GRPC, transport_api_version: V3, \
                        grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}";

    #[test]
    fn a_name_in_the_store_contains_the_source() {
        let all = || Sources::at_clusters(["sds-grpc".into()]).and_files();
        assert_eq!(named("{ads: {}}", Sources::default()).unwrap(), "own");
        assert_eq!(named("{self: {}}", Sources::default()).unwrap(), "own");
        let over_grpc = named(GRPC, all()).unwrap();
        assert_eq!(elsewhere(&over_grpc), Some(("own", Source::Grpc(ApiSource::at_cluster("sds-grpc")))));
        let incremental = named(&GRPC.replace("api_type: GRPC", "api_type: DELTA_GRPC"), all()).unwrap();
        let api = ApiSource { is_incremental: true, ..ApiSource::at_cluster("sds-grpc") };
        assert_eq!(elsewhere(&incremental), Some(("own", Source::Grpc(api))));
        let in_file = named("{path_config_source: {path: /etc/a@b.yaml}}", all()).unwrap();
        assert_eq!(elsewhere(&in_file), Some(("own", Source::File("/etc/a@b.yaml".into()))));
        assert_eq!(named("{path: /etc/a@b.yaml}", all()).unwrap(), in_file);
        assert_eq!(elsewhere("own"), None);
    }

    #[test]
    fn a_source_that_is_not_followed_is_refused_by_its_path() {
        let refused = |source: &str, sources: Sources| named(source, sources).unwrap_err();
        let at_clusters = || Sources::at_clusters(["sds-grpc".into()]);
        assert_eq!(refused(GRPC, Sources::default()), "only ads and self are supported");
        assert_eq!(
            refused(&GRPC.replace("sds-grpc", "other"), at_clusters()),
            "api_config_source.grpc_services[0].envoy_grpc.cluster_name: there is no cluster \"other\" in the bootstrap"
        );
        assert_eq!(refused("{path: /etc/a}", at_clusters()), "a file: only resources of a bootstrap may name files");
        assert_eq!(
            refused(&GRPC.replace("transport_api_version: V3, ", ""), at_clusters()),
            "api_config_source.transport_api_version: must be V3"
        );
        assert_eq!(
            refused("{api_config_source: {api_type: REST, transport_api_version: V3}}", at_clusters()),
            "api_config_source.api_type: REST: not supported, GRPC and DELTA_GRPC are"
        );
        assert_eq!(
            refused(&GRPC.replace("}}]", "}, initial_metadata: [{key: a, value: b}]}]"), at_clusters()),
            "api_config_source.grpc_services[0]: authority and initial_metadata are supported in ads_config only"
        );
        assert_eq!(refused("{}", at_clusters()), "no source is given");
    }
}
