//! The layers on their own, for any tower stack: no mesh, no configuration source.
//!
//! Each layer is made from a piece of [`model`](crate::model), or uses the result of an earlier layer: `from_route` and
//! `from_selected`. `examples/layers_only.rs` has a whole stack.
//!
//! ```
//! use http::{Request, Response};
//! use mesh::{
//!     Body, BoxError,
//!     layers::{BalanceLayer, OutlierLayer, PerEndpoint, TimeoutLayer},
//!     model::{Cluster, Discovery},
//! };
//! use tower::{Layer as _, ServiceExt as _, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let endpoints = ["127.0.0.1:9080".parse()?, "127.0.0.1:9081".parse()?].into_iter().collect();
//! let stack = (
//!     TimeoutLayer::new(std::time::Duration::from_secs(1)),
//!     BalanceLayer::new(Cluster::new("reviews", Discovery::Static(endpoints))),
//!     OutlierLayer::from_selected(),
//! );
//! // The innermost service sends to one endpoint. This one responds with its address.
//! let client = stack.layer(PerEndpoint::new(|endpoint| {
//!     let address = endpoint.address().to_string();
//!     service_fn(move |_: Request<Body>| {
//!         let response = Response::new(Body::from(address.clone()));
//!         async { Ok::<_, BoxError>(response) }
//!     })
//! }));
//! assert_eq!(client.oneshot(Request::new(Body::empty())).await?.status(), 200);
//! # Ok(())
//! # }
//! ```

#[doc(inline)]
pub use mesh_core::filter;
pub use mesh_tower::{
    ClusterHandle,
    balance::{BalanceLayer, PerEndpoint, SelectedEndpoint},
    circuit_breaker::CircuitBreakerLayer,
    filter::{Authorizer, AuthorizerLayer, FilterLayer},
    headers::HeadersLayer,
    metrics::MetricsLayer,
    outlier::OutlierLayer,
    retry::RetryLayer,
    route::{PerCluster, RouteLayer},
    telemetry::{IstioMetrics, Reporter},
    timeout::TimeoutLayer,
};
