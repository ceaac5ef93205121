//! Kubernetes' Gateway API: who serves which ports at the edge of the mesh, and where requests go, at the edge and within.
//!
//! Source: `gateway.networking.k8s.io/v1`, with the fields of the standard channel. As of Istio's resources, a field that this
//! version does not implement is refused by name; a reference that cannot be followed is no mistake here, but a condition in
//! the status of the resource ([`gateway_api`](crate::gateway_api)).

mod filter;
mod gateway;
mod gateway_class;
mod grpc_route;
mod http_route;
mod reference_grant;
mod route;

pub use filter::{PathModifier, RequestRedirect, RouteFilter, UrlRewrite};
pub use gateway::{AllowedNamespaces, AllowedRoutes, KubernetesGateway, Listener, ListenerProtocol, ListenerTls};
pub use gateway_class::GatewayClass;
pub use grpc_route::GRPCRoute;
pub use http_route::HTTPRoute;
pub use reference_grant::{GrantFrom, GrantTo, ReferenceGrant};
pub use route::{BackendRef, ObjectRef, ParentRef, RouteRule, Timeouts};

/// The API group of Gateway API.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";
