//! Envoy's bootstrap file: listeners, clusters, the admin address and the node.
//!
//! The file is YAML or JSON and is read by `json`. Its resources are decoded as those of a control plane.
//! A field that is not supported is an error with its path, and a field without effect is reported with the reason.
//!
//! The bootstrap of gRPC, which is another format, is in `grpc` (feature `json`).

#[cfg(feature = "json")]
pub mod grpc;

mod dynamic;

use std::net::SocketAddr;

use mesh_core::model::AccessLog;
use prost_types::{Struct, value::Kind};
use thiserror::Error;

use crate::decode::field::{At, Notes, Result as FieldResult, fields, is_set};
use crate::decode::value;
use crate::proto::envoy::config::bootstrap::v3::{
    Admin as ProtoAdmin, Bootstrap as ProtoBootstrap, ClusterManager, LayeredRuntime, RuntimeLayer,
    bootstrap::StaticResources, runtime_layer::LayerSpecifier,
};
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::config::listener::v3::Listener;
use crate::resource::config_source::api_source;
use crate::resource::{
    self, ApiSource, Decoded, FieldError, Ignored, Resource, ResourceError, Sources, access_log, decode_listener_named,
};
use crate::validate;

pub use dynamic::{DynamicResources, TypeSource};

/// A decoded bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// The identity of this process towards control planes; empty if the file has none.
    pub node: Node,
    /// The admin endpoint, if there is one.
    pub admin: Option<Admin>,
    /// Where other resources come from.
    pub dynamic_resources: DynamicResources,
    /// Where load is reported; `None` = nowhere. Envoy `ClusterManager.load_stats_config`.
    pub load_stats_config: Option<ApiSource>,
    /// The sources that resources may name: discovery services at clusters of the bootstrap.
    pub sources: Sources,
    /// Clusters, then listeners, in the order of the file.
    pub resources: Vec<Resource>,
    /// Fields that are set and have no effect, each with the resource or the part of the file that contains it.
    pub ignored: Vec<(String, Ignored)>,
}

/// The admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address to listen on; port 0 = chosen by the system.
    pub address: SocketAddr,
    /// Access logs of its requests.
    pub access_log: Vec<AccessLog>,
}

/// A bootstrap is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BootstrapError {
    /// The faults, at least one.
    pub faults: Vec<BootstrapFault>,
}

/// A field of a bootstrap that is not supported or has an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{resource}{}{error}", if resource.is_empty() { "" } else { ": " })]
pub struct BootstrapFault {
    /// The resource with the field, such as `cluster echo`; empty if the field is not in a resource.
    pub resource: String,
    /// The path of the resource, such as `static_resources.clusters[0]`; empty if the field is not in a resource.
    pub place: String,
    /// The field of the resource or of the bootstrap, and the reason.
    pub error: FieldError,
}

impl BootstrapFault {
    /// The faults in the resource at the path `place`.
    pub fn in_resource(place: &str, error: ResourceError) -> impl Iterator<Item = Self> {
        let name = if error.name.is_empty() { "(unnamed)" } else { &error.name };
        let (resource, place) = (format!("{} {name}", error.kind), place.to_owned());
        let errors = std::iter::once(error.error).chain(error.more);
        errors.map(move |error| Self { resource: resource.clone(), place: place.clone(), error })
    }

    /// The path of the field from the root of the bootstrap.
    #[must_use]
    pub fn path(&self) -> String {
        let parts = [&*self.place, &*self.error.path];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }
}

/// Decodes a bootstrap.
///
/// # Errors
/// If fields are not supported, invalid, or break a rule of Envoy's. All faults are reported that are found.
pub fn from_proto(message: &ProtoBootstrap) -> Result<Bootstrap, BootstrapError> {
    let notes = Notes::default();
    let decoded = decode(&At::root(&notes), message);
    let mut resources = Vec::new();
    let mut faults = Vec::new();
    // Each resource is validated where it is decoded.
    let violations = validate::violations(message, Some("static_resources"));
    let (parts, notes) = match validate::with_violations(violations, notes.finish(decoded)) {
        Ok((parts, notes)) => (Some(parts), notes),
        Err(errors) => {
            let fault = |error| BootstrapFault { resource: String::new(), place: String::new(), error };
            faults.extend(errors.into_iter().map(fault));
            (None, Vec::new())
        }
    };
    let mut ignored: Vec<(String, Ignored)> = notes.into_iter().map(|note| ("bootstrap".to_owned(), note)).collect();
    let mut seen = hashbrown::HashSet::new();
    let clusters = message.static_resources.iter().flat_map(|resources| &resources.clusters);
    let sources = Sources::at_clusters(clusters.map(|cluster| cluster.name.as_str().into()));
    let own_sources = sources.clone().and_files();
    for (place, decoded) in message.static_resources.iter().flat_map(|all| decode_resources(all, &own_sources)) {
        match decoded {
            Ok(Decoded { resource, ignored: notes }) => {
                let kind = resource.resource_type();
                if !seen.insert((kind, resource.name().to_owned())) {
                    faults.extend(BootstrapFault::in_resource(&place, shared_name(&resource)));
                }
                ignored.extend(notes.into_iter().map(|note| (format!("{kind} {}", resource.name()), note)));
                resources.push(resource);
            }
            Err(error) => faults.extend(BootstrapFault::in_resource(&place, *error)),
        }
    }
    for (path, api) in parts.iter().flat_map(Parts::api_sources) {
        if !sources.has_cluster(&api.cluster) {
            let reason = format!("there is no cluster {:?} in the bootstrap", api.cluster);
            let error = FieldError { path, reason };
            faults.push(BootstrapFault { resource: String::new(), place: String::new(), error });
        }
    }
    match parts {
        Some(Parts { node, admin, dynamic_resources, load_stats_config }) if faults.is_empty() => {
            Ok(Bootstrap { node, admin, dynamic_resources, load_stats_config, sources, resources, ignored })
        }
        _ => Err(BootstrapError { faults }),
    }
}

/// The error for two resources of the same type and name, of which one would be lost.
fn shared_name(resource: &Resource) -> ResourceError {
    let reason = "duplicate: a name stands for one resource".to_owned();
    let error = FieldError { path: "name".to_owned(), reason };
    ResourceError::new(&resource.resource_type().to_string(), resource.name(), error)
}

/// The path of a resource, and the resource.
type Placed = (String, Result<Decoded, Box<ResourceError>>);

struct Parts {
    node: Node,
    admin: Option<Admin>,
    dynamic_resources: DynamicResources,
    load_stats_config: Option<ApiSource>,
}

impl Parts {
    /// The services over gRPC, with the paths of the fields that name their clusters.
    fn api_sources(&self) -> impl Iterator<Item = (String, &ApiSource)> {
        let dynamic = self.dynamic_resources.api_sources();
        let dynamic = dynamic.map(|(path, api)| (format!("dynamic_resources.{path}"), api));
        let load = self.load_stats_config.iter().map(|api| ("cluster_manager.load_stats_config".to_owned(), api));
        dynamic.chain(load).map(|(path, api)| (format!("{path}.grpc_services[0].envoy_grpc.cluster_name"), api))
    }
}

/// Why Envoy's process-wide settings have no effect.
const OWN_PROCESS: &str = "it tunes Envoy's process";
/// Why the overload manager has no effect.
const NO_OVERLOAD_MANAGER: &str = "limits are those of listeners and clusters";
/// Why the choice of a regular expression engine has no effect.
const ONE_REGEX_ENGINE: &str = "expressions are RE2's";

/// The names of extensions in fields of a bootstrap that have no effect, or the beginnings of those names, and why.
pub(crate) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("envoy.extensions.network.socket_interface.", OWN_PROCESS),
    ("envoy.regex_engines.", ONE_REGEX_ENGINE),
    ("envoy.resource_monitors.", NO_OVERLOAD_MANAGER),
    ("envoy.watchdog.", OWN_PROCESS),
];

/// Why settings of statistics have no effect.
const OWN_STATISTICS: &str = "all statistics are kept, under their usual names";

fn decode(at: &At<'_>, message: &ProtoBootstrap) -> FieldResult<Parts> {
    fields! {
        ProtoBootstrap = message, at;
        use {
            node, static_resources, cluster_manager, layered_runtime, admin, stats_flush_interval, dynamic_resources, tracing,
        }
        ignore {
            node_context_params: "resources are not named by xdstp URLs",
            flags_path: OWN_PROCESS,
            deferred_stat_options: OWN_STATISTICS,
            stats_config: OWN_STATISTICS,
            watchdog: OWN_PROCESS,
            watchdogs: OWN_PROCESS,
            overload_manager: NO_OVERLOAD_MANAGER,
            enable_dispatcher_stats: OWN_STATISTICS,
            stats_server_version_override: OWN_STATISTICS,
            use_tcp_for_dns_lookups: "names are resolved by the mesh's own resolver",
            fatal_actions: OWN_PROCESS,
            default_socket_interface: OWN_PROCESS,
            inline_headers: OWN_PROCESS,
            perf_tracing_file_path: OWN_PROCESS,
            default_regex_engine: ONE_REGEX_ENGINE,
            listener_manager: OWN_PROCESS,
            application_log_config: "the log format is given on the command line",
            grpc_async_client_manager_config: OWN_PROCESS,
            memory_allocator_manager: OWN_PROCESS,
            enable_worker_cpu_affinity: OWN_PROCESS,
            stats_flush: "statistics are read, not flushed",
            stats_eviction: OWN_STATISTICS,
        }
        refuse {
            hds_config, stats_sinks, header_prefix, dns_resolution_config,
            typed_dns_resolver_config, bootstrap_extensions, config_sources, default_config_source,
            certificate_provider_instances, xds_delegate_extension, xds_config_tracker_extension,
        }
    }
    // An empty section configures nothing.
    if tracing.as_ref().is_some_and(is_set) {
        at.report(*at.field("tracing").refuse("not supported"));
    }
    if is_set(stats_flush_interval) {
        at.field("stats_flush_interval").ignore("statistics are read, not flushed");
    }
    let load_stats_config = value::optional(&at.field("cluster_manager"), cluster_manager.as_ref(), load_stats_config)?;
    value::optional(&at.field("layered_runtime"), layered_runtime.as_ref(), runtime_is_harmless)?;
    // They are decoded one by one, by `decode_resources`.
    let _ = static_resources;
    Ok(Parts {
        load_stats_config: load_stats_config.flatten(),
        node: node.clone().unwrap_or_default(),
        dynamic_resources: value::optional(
            &at.field("dynamic_resources"),
            dynamic_resources.as_ref(),
            dynamic::decode,
        )?
        .unwrap_or_default(),
        admin: value::optional(&at.field("admin"), admin.as_ref(), decode_admin)?.flatten(),
    })
}

/// Secrets and clusters first, so that no resource refers to one that is not applied yet.
fn decode_resources(message: &StaticResources, sources: &Sources) -> Vec<Placed> {
    let StaticResources { listeners, clusters, secrets } = message;
    let place = |list: &'static str| move |index: usize| format!("static_resources.{list}[{index}]");
    let secrets = (0..).map(place("secrets")).zip(secrets.iter().map(resource::decode_secret));
    let clusters = (0..)
        .map(place("clusters"))
        .zip(clusters.iter().map(|message| resource::decode_cluster_with(sources, message)));
    let names = listener_names(listeners);
    let listeners = names.iter().zip(listeners).map(|(name, message)| decode_listener_named(sources, name, message));
    secrets.chain(clusters).chain((0..).map(place("listeners")).zip(listeners)).collect()
}

/// The names of listeners. Envoy makes up a random one where there is none; here it is the address, with a number if
/// another listener has that name.
fn listener_names(listeners: &[Listener]) -> Vec<String> {
    let mut taken: hashbrown::HashSet<String> =
        listeners.iter().map(|listener| listener.name.clone()).filter(|name| !name.is_empty()).collect();
    let unnamed = |listener: &Listener| {
        let notes = Notes::default();
        let address = listener.address.as_ref().and_then(|address| value::ip_address(&At::root(&notes), address).ok());
        let address = address.map_or_else(|| "listener".to_owned(), |address| address.to_string());
        std::iter::once(address.clone()).chain((2..).map(move |number: usize| format!("{address} ({number})")))
    };
    let mut names = Vec::new();
    for listener in listeners {
        names.push(if listener.name.is_empty() {
            unnamed(listener).find(|name| taken.insert(name.clone())).unwrap_or_default()
        } else {
            listener.name.clone()
        });
    }
    names
}

fn decode_admin(at: &At<'_>, message: &ProtoAdmin) -> FieldResult<Option<Admin>> {
    fields! {
        ProtoAdmin = message, at;
        use { access_log, access_log_path, address }
        ignore {
            profile_path: "there is no profiler",
            ignore_global_conn_limit: "there is no global limit of connections",
        }
        refuse { socket_options, allow_paths }
    }
    let mut logs = value::list(at, "access_log", access_log, access_log::decode)?;
    if !access_log_path.is_empty() {
        logs.push(access_log::file_in_default_format(&at.field("access_log_path"), access_log_path)?);
    }
    let Some(address) = address else { return Ok(None) };
    Ok(Some(Admin { address: value::ip_address(&at.field("address"), address)?, access_log: logs }))
}

/// The one field of the cluster manager that has an effect.
fn load_stats_config(at: &At<'_>, message: &ClusterManager) -> FieldResult<Option<ApiSource>> {
    fields! {
        ClusterManager = message, at;
        use { load_stats_config }
        ignore {
            local_cluster_name: "traffic never prefers its own zone",
            outlier_detection: "ejections are written to the process log",
            enable_deferred_cluster_creation: OWN_PROCESS,
        }
        refuse { upstream_bind_config }
    }
    value::optional(&at.field("load_stats_config"), load_stats_config.as_ref(), api_source)
}

/// Runtime keys that may be set, because they select implementations or limits of Envoy itself. Other keys enable
/// features or override other fields, and are refused.
const HARMLESS_RUNTIME_KEYS: &[&str] = &[
    "overload.global_downstream_max_connections",
    "re2.max_program_size.error_level",
    "re2.max_program_size.warn_level",
];
/// Prefixes of such keys.
const HARMLESS_RUNTIME_PREFIXES: &[&str] = &["envoy.reloadable_features.", "envoy.restart_features."];

fn runtime_is_harmless(at: &At<'_>, message: &LayeredRuntime) -> FieldResult<()> {
    for (index, layer) in message.layers.iter().enumerate() {
        let at = at.item("layers", index);
        let RuntimeLayer { name: _, layer_specifier } = layer;
        match layer_specifier {
            Some(LayerSpecifier::StaticLayer(values)) => static_layer(&at.field("static_layer"), "", values)?,
            Some(LayerSpecifier::AdminLayer(_)) => at.field("admin_layer").ignore("there is no runtime to change"),
            Some(LayerSpecifier::DiskLayer(_)) => at.report(*at.field("disk_layer").refuse("not supported")),
            Some(LayerSpecifier::RtdsLayer(_)) => at.report(*at.field("rtds_layer").refuse("not supported")),
            None => {}
        }
    }
    Ok(())
}

/// Checks the keys of a layer, which may be written with dots or as nested objects.
fn static_layer(at: &At<'_>, prefix: &str, values: &Struct) -> FieldResult<()> {
    for (key, value) in &values.fields {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if let Some(Kind::StructValue(inner)) = &value.kind {
            static_layer(at, &key, inner)?;
            continue;
        }
        let is_harmless = HARMLESS_RUNTIME_KEYS.contains(&key.as_str())
            || HARMLESS_RUNTIME_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
        if !is_harmless {
            at.report(*at.field(&key).refuse(format_args!("runtime key {key}: not supported")));
            continue;
        }
        at.field(&key).ignore(OWN_PROCESS);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
