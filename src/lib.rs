//! An embeddable service mesh: what Istio and Envoy do in a sidecar, as a library.
//!
//! A program joins the mesh with [`Mesh::builder`], calls services through a [`Channel`] and serves through a
//! [`Server`]. Load balancing, weighted routing, retries, timeouts, circuit breaking, outlier ejection, fault injection
//! and Istio's metrics happen in process, as configured by ordinary Istio resources in a directory.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use http_body_util::BodyExt as _;
//! use mesh::Mesh;
//! use tower::ServiceExt as _;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let mesh = Mesh::builder().config_dir("mesh").service("productpage").label("version", "v1").build().await?;
//!
//! // A client: any HTTP request, or a tonic client with the channel as its transport.
//! let reviews = mesh.channel("reviews:9080")?;
//! let request = http::Request::get("/reviews/0").body(String::new())?;
//! let response = reviews.oneshot(request).await?;
//! println!("{}: {:?}", response.status(), response.into_body().collect().await?.to_bytes());
//!
//! // A server: an axum router, tonic routes, or any other tower service.
//! let app = Router::new().route("/productpage", get(async || "hello"));
//! let socket = tokio::net::TcpListener::bind("127.0.0.1:9081").await?;
//! mesh.server("productpage")?.serve(socket, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The [`guide`] has a page for each of: a first program, `serve` and `layer`, authorization, access logs, tests without a network,
//! configuration from code, logging. The [`layers`] work on any tower stack without a mesh.
//!
//! # Features
//!
//! | feature | default | enables |
//! |---|---|---|
//! | `istio` | yes | `MeshBuilder::config_dir`: a directory of Istio resources, translated in process; implies `xds` |
//! | `xds` | with `istio` | `MeshBuilder::control_plane`: the client of a control plane |
//! | `ads` | no | `MeshBuilder::xds`: configuration from control planes over gRPC, with the bootstrap of gRPC; implies `xds` |
//! | `admin` | no | `Mesh::admin`: Envoy's admin endpoint |
//! | `axum` | no | axum's `ConnectInfo<SocketAddr>` under [`Server::serve`] |
//! | `tonic` | no | tonic's `remote_addr()` under [`Server::serve`], and `Channel::with_status_source` |
//! | `dns` | no | an asynchronous DNS resolver, which respects the TTL of responses; without it, `getaddrinfo` is used |
//! | `tls` | no | TLS of connections, mutual TLS with `istio` (`MeshBuilder::certificate_authority`), verification of JSON Web Tokens |
//!
//! With `default-features = false`, configuration comes from code, and neither protobuf nor YAML is compiled.
//!
//! This crate is a facade: it connects the other crates and has no logic of its own.

#[cfg(feature = "admin")]
mod admin;
mod background;
mod builder;
#[cfg(all(feature = "istio", feature = "tls"))]
mod certificates;
mod channel;
#[cfg(any(feature = "axum", feature = "tonic"))]
mod connect_info;
#[cfg(feature = "xds")]
mod control_plane;
mod endpoints;
mod error;
mod event;
pub mod guide;
mod identity;
#[cfg(feature = "istio")]
mod istio;
pub mod layers;
mod mesh;
mod resolver;
mod server;
#[cfg(feature = "tonic")]
mod status_channel;
#[cfg(feature = "ads")]
mod xds;

#[cfg(feature = "admin")]
pub use admin::Admin;
pub use builder::MeshBuilder;
pub use channel::Channel;
pub use endpoints::{Endpoints, Protocol};
pub use error::Error;
pub use event::{Accepted, Applied, ConfigEvent, ConfigEvents, Rejected};
pub use mesh::Mesh;
#[doc(inline)]
pub use mesh_core::model;
pub use mesh_core::telemetry::ResponseFlags;
pub use mesh_core::tls::{CertificateInfo, PeerIdentity};
pub use mesh_tower::{
    Accept, AcceptedConnection, Body, BoxError, Connect, ConnectTo, Connected, Connecting, MemoryListener,
    MemoryNetwork, ResponseBody, ResponseCause, ResponseDetails,
    server::{Connection, ServerLayer, ServerService},
};
#[cfg(feature = "ads")]
#[doc(inline)]
pub use mesh_xds::bootstrap::grpc::GrpcBootstrap;
pub use server::Server;
#[cfg(feature = "tonic")]
pub use status_channel::StatusChannel;

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
