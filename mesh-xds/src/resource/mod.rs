//! Decoding of xDS resources to values of the model.
//!
//! Every field of every message is either decoded, or ignored with a reason that is reported, or refused with its path.
//! A policy that is not enforced is therefore never accepted. Each decoder lists all fields of its message; when the API
//! has a new field, the decoder does not compile until it is listed.
//!
//! Resources are refused one by one. The other resources of a response are not affected.

pub(crate) mod access_log;
mod cluster;
pub(crate) mod config_source;
mod endpoint;
mod filter_chain;
mod http1_options;
mod http_connection_manager;
mod lb_policy;
mod listener;
mod listener_filter;
mod metadata;
mod network_filter;
mod network_rbac;
mod original_dst;
mod protocol_options;
mod resilience;
mod retry;
mod route_action;
mod route_configuration;
mod tcp_proxy;
mod tls;
mod transport_socket;

use std::fmt;
use std::sync::Arc;

use mesh_core::model;
use prost::{Message, Name};
use prost_types::Any;
use thiserror::Error;

pub use crate::decode::sources::Sources;
#[cfg(feature = "json")]
pub(crate) use config_source::in_file;
pub use config_source::{ApiSource, Source, elsewhere};
pub use field::{FieldError, Ignored};

use crate::decode::{data_source, field, header, route_match, value};
use field::{At, Notes};

use crate::proto::envoy::config::cluster::v3::Cluster;
use crate::proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::proto::envoy::config::listener::v3::Listener;
use crate::proto::envoy::config::route::v3::RouteConfiguration;
use crate::proto::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use crate::proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use crate::proto::envoy::extensions::transport_sockets::tls::v3::{Secret, SpiffeCertValidatorConfig};
use crate::proto::envoy::service::discovery::v3::Resource as Wrapper;
use crate::{descriptor::type_name, unknown::unknown_fields, validate, validate::violations};

/// The types of resources, in the order in which they must be added so that no resource refers to one that is not added
/// yet. They are removed in reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    ClusterLoadAssignment,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    RouteConfiguration,
}

impl ResourceType {
    /// All types.
    pub const ALL: [Self; 5] =
        [Self::Secret, Self::Cluster, Self::ClusterLoadAssignment, Self::Listener, Self::RouteConfiguration];

    /// Whether a response has all resources of the type, so that a missing one no longer exists.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }

    /// The name of the discovery service in statistics: `sds`, `cds`, `eds`, `lds`, `rds`.
    #[must_use]
    pub const fn service(self) -> &'static str {
        match self {
            Self::Secret => "sds",
            Self::Cluster => "cds",
            Self::ClusterLoadAssignment => "eds",
            Self::Listener => "lds",
            Self::RouteConfiguration => "rds",
        }
    }

    /// The full name of the protobuf message.
    #[must_use]
    pub const fn message_name(self) -> &'static str {
        match self {
            Self::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
            Self::ClusterLoadAssignment => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type URL in discovery requests and responses.
    #[must_use]
    pub fn type_url(self) -> String {
        format!("type.googleapis.com/{}", self.message_name())
    }

    /// The type with this type URL. The part before the last `/` is ignored.
    #[must_use]
    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.message_name() == type_name(type_url))
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::Cluster => "cluster",
            Self::ClusterLoadAssignment => "endpoints",
            Self::Listener => "listener",
            Self::RouteConfiguration => "route configuration",
        })
    }
}

/// A decoded resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A secret.
    Secret(Arc<model::Secret>),
    /// A cluster.
    Cluster(Arc<model::Cluster>),
    /// The endpoints of the clusters whose EDS service name is `cluster_name`.
    ClusterLoadAssignment {
        /// The name of the resource.
        cluster_name: Arc<str>,
        /// The endpoints.
        assignment: Arc<model::LoadAssignment>,
    },
    /// A listener.
    Listener(Arc<model::Listener>),
    /// A route configuration.
    RouteConfiguration(Arc<model::RouteConfiguration>),
}

impl Resource {
    /// The type of the resource.
    #[must_use]
    pub fn resource_type(&self) -> ResourceType {
        match self {
            Self::Secret(_) => ResourceType::Secret,
            Self::Cluster(_) => ResourceType::Cluster,
            Self::ClusterLoadAssignment { .. } => ResourceType::ClusterLoadAssignment,
            Self::Listener(_) => ResourceType::Listener,
            Self::RouteConfiguration(_) => ResourceType::RouteConfiguration,
        }
    }

    /// The name, unique within its type.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Secret(secret) => &secret.name,
            Self::Cluster(cluster) => cluster.name.as_str(),
            Self::ClusterLoadAssignment { cluster_name, .. } => cluster_name,
            Self::Listener(listener) => &listener.name,
            Self::RouteConfiguration(routes) => routes.name.as_str(),
        }
    }
}

/// A decoded resource and its fields without effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The resource.
    pub resource: Resource,
    /// Fields that are set and have no effect.
    pub ignored: Vec<Ignored>,
}

/// A resource is refused. The previous version of the resource stays in force.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind} {}: {error}{}", if name.is_empty() { "(unnamed)" } else { name }, rest(more))]
pub struct ResourceError {
    /// The type of the resource, or the full name of a message that is not a resource.
    pub kind: String,
    /// Its name; empty if it could not be read.
    pub name: String,
    /// The field and the reason.
    pub error: FieldError,
    /// More errors of the resource.
    pub more: Vec<FieldError>,
}

fn rest(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("; {error}")).collect()
}

impl ResourceError {
    /// An error in the resource `name`.
    #[must_use]
    pub fn new(kind: &str, name: &str, error: FieldError) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), error, more: Vec::new() }
    }
}

/// Decodes a resource of a discovery response, which may be wrapped in a `discovery.v3.Resource`.
///
/// # Errors
/// If the message is not one of [`ResourceType::ALL`], is malformed, or has a field that is refused.
pub fn decode(any: &Any) -> Result<Decoded, Box<ResourceError>> {
    decode_with(any, &Sources::default())
}

/// Like [`decode`], for a resource that may name other sources of resources.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_with(any: &Any, sources: &Sources) -> Result<Decoded, Box<ResourceError>> {
    let unread = |kind: &str, reason: String| {
        let error = FieldError { path: String::new(), reason };
        Box::new(ResourceError::new(kind, "", error))
    };
    let name = type_name(&any.type_url);
    if name == "envoy.service.discovery.v3.Resource" {
        let wrapper = Wrapper::decode(any.value.as_slice()).map_err(|error| unread(name, error.to_string()))?;
        let inner = wrapper.resource.ok_or_else(|| unread(name, "contains no resource".to_owned()))?;
        if type_name(&inner.type_url) == name {
            return Err(unread(name, "contains another wrapper".to_owned()));
        }
        return decode_with(&inner, sources);
    }
    let Some(kind) = ResourceType::from_type_url(&any.type_url) else {
        return Err(unread(name, "not a supported type of resource".to_owned()));
    };
    let malformed = |error: prost::DecodeError| unread(&kind.to_string(), format!("malformed message: {error}"));
    let bytes = any.value.as_slice();
    let mut decoded = match kind {
        ResourceType::Secret => decode_secret(&Secret::decode(bytes).map_err(malformed)?),
        ResourceType::Cluster => decode_cluster_with(sources, &Cluster::decode(bytes).map_err(malformed)?),
        ResourceType::ClusterLoadAssignment => {
            decode_endpoints(&ClusterLoadAssignment::decode(bytes).map_err(malformed)?)
        }
        ResourceType::Listener => decode_listener_with(sources, &Listener::decode(bytes).map_err(malformed)?),
        ResourceType::RouteConfiguration => decode_routes(&RouteConfiguration::decode(bytes).map_err(malformed)?),
    }?;
    decoded.ignored.extend(unknown_fields(name, bytes).into_iter().map(|field| Ignored {
        path: field.path,
        reason: format!("field {} of {} belongs to a newer API", field.number, field.message),
    }));
    Ok(decoded)
}

/// The name of a resource, without decoding the resource; empty if it cannot be read.
#[must_use]
pub fn name(any: &Any) -> String {
    /// The name is field 1 of all resources, and of the wrapper.
    #[derive(PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Named::decode(any.value.as_slice()).map(|named| named.name).unwrap_or_default()
}

/// Decodes a secret.
///
/// # Errors
/// If fields are refused, or break a rule of Envoy's for the message.
pub fn decode_secret(message: &Secret) -> Result<Decoded, Box<ResourceError>> {
    run(ResourceType::Secret, &message.name, violations(message, None), |at| {
        Ok(Resource::Secret(Arc::new(tls::secret(at, message)?)))
    })
}

/// Decodes a cluster.
///
/// # Errors
/// If fields are refused, or break a rule of Envoy's for the message.
pub fn decode_cluster(message: &Cluster) -> Result<Decoded, Box<ResourceError>> {
    decode_cluster_with(&Sources::default(), message)
}

/// Decodes a cluster that may name these sources.
pub(crate) fn decode_cluster_with(sources: &Sources, message: &Cluster) -> Result<Decoded, Box<ResourceError>> {
    run_with(
        Notes::with_sources(sources.clone()),
        ResourceType::Cluster,
        &message.name,
        violations(message, None),
        |at| Ok(Resource::Cluster(Arc::new(cluster::decode(at, message)?))),
    )
}

/// Decodes the endpoints of a cluster.
///
/// # Errors
/// If fields are refused, or break a rule of Envoy's for the message.
pub fn decode_endpoints(message: &ClusterLoadAssignment) -> Result<Decoded, Box<ResourceError>> {
    let name = &message.cluster_name;
    run(ResourceType::ClusterLoadAssignment, name, violations(message, None), |at| {
        let assignment = endpoint::decode(at, message, endpoint::Names::Refused)?;
        Ok(Resource::ClusterLoadAssignment { cluster_name: name.as_str().into(), assignment: Arc::new(assignment) })
    })
}

/// Decodes a listener.
///
/// # Errors
/// If fields are refused, or break a rule of Envoy's for the message.
pub fn decode_listener(message: &Listener) -> Result<Decoded, Box<ResourceError>> {
    decode_listener_with(&Sources::default(), message)
}

fn decode_listener_with(sources: &Sources, message: &Listener) -> Result<Decoded, Box<ResourceError>> {
    if message.name.is_empty() {
        let error = FieldError { path: "name".to_owned(), reason: "is empty".to_owned() };
        return Err(Box::new(ResourceError::new(&ResourceType::Listener.to_string(), "", error)));
    }
    let mut violations = violations(message, None);
    // Control planes of gRPC, such as istiod, leave it out: gRPC has no use for it and no rules of this kind.
    if message.api_listener.is_some() || message.name.starts_with(GRPC_SERVER_LISTENER) {
        violations.retain(|violation| {
            !violation.path.ends_with("].typed_config.stat_prefix")
                && violation.path != "api_listener.api_listener.stat_prefix"
        });
    }
    listener_named(sources, &message.name, message, violations)
}

/// The beginning of the names of listeners for the servers of gRPC in istiod.
const GRPC_SERVER_LISTENER: &str = "xds.istio.io/grpc/lds/inbound/";

/// Decodes a listener of a bootstrap, which may name these sources, and calls it `name`.
pub(crate) fn decode_listener_named(
    sources: &Sources,
    name: &str,
    message: &Listener,
) -> Result<Decoded, Box<ResourceError>> {
    listener_named(sources, name, message, violations(message, None))
}

fn listener_named(
    sources: &Sources,
    name: &str,
    message: &Listener,
    violations: Vec<FieldError>,
) -> Result<Decoded, Box<ResourceError>> {
    run_with(Notes::with_sources(sources.clone()), ResourceType::Listener, name, violations, |at| {
        Ok(Resource::Listener(Arc::new(listener::decode(at, name, message)?)))
    })
}

/// Decodes a route configuration.
///
/// # Errors
/// If fields are refused, or break a rule of Envoy's for the message.
pub fn decode_routes(message: &RouteConfiguration) -> Result<Decoded, Box<ResourceError>> {
    run(ResourceType::RouteConfiguration, &message.name, violations(message, None), |at| {
        Ok(Resource::RouteConfiguration(Arc::new(route_configuration::decode(at, message)?)))
    })
}

/// Decodes a resource with these violations of Envoy's rules. All errors are reported that are found.
fn run(
    kind: ResourceType,
    name: &str,
    violations: Vec<FieldError>,
    decode: impl FnOnce(&At<'_>) -> field::Result<Resource>,
) -> Result<Decoded, Box<ResourceError>> {
    run_with(Notes::default(), kind, name, violations, decode)
}

fn run_with(
    notes: Notes,
    kind: ResourceType,
    name: &str,
    violations: Vec<FieldError>,
    decode: impl FnOnce(&At<'_>) -> field::Result<Resource>,
) -> Result<Decoded, Box<ResourceError>> {
    let result = decode(&At::root(&notes));
    match validate::with_violations(violations, notes.finish(result)) {
        Ok((resource, ignored)) => Ok(Decoded { resource, ignored }),
        Err(mut errors) => {
            let error = errors.remove(0);
            Err(Box::new(ResourceError { kind: kind.to_string(), name: name.to_owned(), error, more: errors }))
        }
    }
}

/// Packs `message` into an `Any`, for a discovery response.
#[must_use]
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// The full names of the messages of extensions that the decoders of resources take.
pub(crate) fn extensions() -> impl Iterator<Item = String> {
    let listener_filters = listener_filter::FILTERS.iter().map(|(name, _)| *name);
    let network_filters = network_filter::FILTERS.iter().map(|(name, _)| *name);
    let loggers = access_log::LOGGERS.iter().map(|(name, _)| *name);
    let others = [retry::PREVIOUS_HOSTS, protocol_options::UPSTREAM_OPTIONS, cluster::AGGREGATE];
    let others = others.into_iter().chain(transport_socket::TRANSPORT_SOCKETS);
    let named = listener_filters.chain(network_filters).chain(loggers).chain(others).map(ToOwned::to_owned);
    named
        .chain([
            SpiffeCertValidatorConfig::full_name(),
            UuidRequestIdConfig::full_name(),
            PreserveCaseFormatterConfig::full_name(),
        ])
        .chain(lb_policy::extensions())
}

/// The names of extensions in fields that have no effect, or the beginnings of those names, and why.
pub(crate) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("envoy.network.dns_resolver.cares", cluster::OWN_RESOLVER),
    ("envoy.tracers.", http_connection_manager::NO_SPANS),
];

#[cfg(test)]
mod tests;
