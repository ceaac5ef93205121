//! Resources of Istio and Kubernetes: read from files, checked one by one, and kept as typed values with their positions.
//!
//! Contradictions between resources are found by [`load`](crate::load), which is also the entry point. An unknown field
//! is an error that names it: a mesh that ignored a field, or worse a security policy, would behave differently from
//! its configuration. Reading does not stop at the first mistake.
//!
//! Of Kubernetes' objects, those are read that say where a service is and what its workloads are; their other fields are
//! not of interest, and objects of other kinds are left alone and counted ([`LeftAlone`]). A document that is no object at
//! all, such as the values of a Helm chart, is left alone with a note of what it seems to be (`other`).
//!
//! The settings of the mesh, MeshConfig, are in a ConfigMap or an IstioOperator (`mesh_config`).
//!
//! `kind` has the table of kinds. A kind has a module here, with its type and its reader; fields that several kinds share
//! are in `scalar`, `namespaced_host` and `port`.

mod authorization_policy;
mod client_tls;
mod completeness;
mod destination_rule;
mod gateway;
pub(crate) mod gateway_api;
mod header;
mod kind;
mod kubernetes;
mod left_alone;
mod mesh_config;
mod metadata;
mod namespaced_host;
mod options;
mod other;
mod peer_authentication;
mod port;
mod request_authentication;
mod resource;
mod scalar;
mod selector;
mod server_tls;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload_entry;

pub use authorization_policy::{
    Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, RuleCondition, RuleOperation, RuleSource,
    ValueMatch,
};
pub use client_tls::{ClientTls, ClientTlsMode};
pub(crate) use completeness::Completeness;
pub use destination_rule::{
    ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, Subset, TcpKeepalive, TrafficPolicy,
};
pub use gateway::{Gateway, Server, ServerMode};
pub use gateway_api::{
    AllowedNamespaces, AllowedRoutes, BackendRef, GRPCRoute, GatewayClass, GrantFrom, GrantTo, HTTPRoute,
    KubernetesGateway, Listener, ListenerProtocol, ListenerTls, ObjectRef, ParentRef, PathModifier, ReferenceGrant,
    RequestRedirect, RouteFilter, RouteRule, Timeouts, UrlRewrite,
};
pub(crate) use kind::for_each_kind;
pub use kind::{Config, Kind};
pub use kubernetes::{
    Addresses, CronJob, DaemonSet, Deployment, EndpointAddress, EndpointPort, EndpointSlice, Endpoints, Job,
    KubernetesPort, Namespace, Node, Pod, PodTemplate, ReplicaSet, ReplicationController, Secret, SecretData, Service,
    StatefulSet, TargetPort,
};
pub use left_alone::LeftAlone;
pub use mesh_config::{
    BodyInCheck, ExtAuthzHttp, ExtAuthzProtocol, ExtAuthzProvider, ExtensionProvider, MeshConfig, PathNormalization,
    ProviderKind,
};
pub use metadata::{DEFAULT_NAMESPACE, Metadata};
pub use namespaced_host::{NamespaceScope, NamespacedHost};
pub use options::Options;
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use port::Protocol;
pub use request_authentication::{ClaimToHeader, JwksUri, JwtHeader, JwtKeys, JwtRule, RequestAuthentication};
pub use scalar::{Labels, StringMatch, Visibility, selects};
pub use server_tls::{CertificateFiles, ServerTls, ServerTlsMode, TlsVersion};
pub use service_entry::{Location, Resolution, ServiceEntry, ServicePort};
pub use sidecar::{EgressListener, IngressListener, ListenerPort, OutboundTrafficPolicy, Sidecar};
pub use virtual_service::{
    Abort, ClaimMatch, CorsPolicy, Delay, Destination, DirectResponse, Fault, FaultStatus, GatewayName, HeaderMatch,
    HeaderOperations, Headers, HttpAction, HttpMatch, HttpRoute, ListenerMatch, Redirect, RedirectPort, RetryPolicy,
    Rewrite, RouteDestination, SniHost, TcpMatch, TcpRoute, TlsMatch, TlsRoute, UnmatchedPreflights, UriRewrite,
    VirtualService, WeightedDestination,
};
pub use workload_entry::{Workload, WorkloadEntry};

pub use crate::document::{Located, Strictness};

use kind::Resource;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source};

/// The resources of files, each of which has been checked on its own.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) config: Config,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) completeness: Completeness,
    pub(crate) left_alone: Vec<LeftAlone>,
}

/// Reads the resources of all files.
pub(crate) fn read(sources: &[Arc<Source>], options: &Options) -> Read {
    let mut reader = resource::Reader::new(sources, options);
    for source in sources {
        reader.read(source);
    }
    let mut read = reader.finish();
    read.config.sort();
    read
}
