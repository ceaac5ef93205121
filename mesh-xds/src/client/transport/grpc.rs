//! A control plane over gRPC: Envoy's "Aggregated Discovery Service", or the discovery service of one type of resource, in
//! both variants of the protocol.
//!
//! The connection is the caller's: any tower service that carries gRPC calls, such as a channel of the mesh to the cluster of a
//! control plane, or tonic's own channel.

use std::error::Error;
use std::fmt;
use std::future::Future;

use mesh_core::causes::with_causes;
use prost::Message;
use tokio::sync::mpsc;
use tonic::client::GrpcService;
use tonic::codegen::http::{HeaderMap, uri::PathAndQuery};
use tonic::codegen::tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::codegen::{Body, Bytes};
use tonic::metadata::MetadataMap;
use tonic::{IntoStreamingRequest as _, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Disconnected, Stream, Transport};
use crate::client::request::Request;
use crate::client::response::Response;
use crate::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::resource::ResourceType;

/// Messages that may wait in either direction before the sender has to.
const CAPACITY: usize = 16;

/// Size of the largest response, in bytes. Resources of one type arrive in one message; gRPC's default of 4 MiB is less than
/// those of a large mesh.
pub const MAX_RESPONSE_BYTES: usize = 256 * 1024 * 1024;

/// A [`Transport`] over the connections of `S`.
#[derive(Clone)]
pub struct Grpc<S> {
    service: S,
    resource_type: Option<ResourceType>,
    is_incremental: bool,
    metadata: MetadataMap,
}

/// The method with the resources of one type, or with all types in one stream.
const fn method_of(resource_type: Option<ResourceType>, is_incremental: bool) -> &'static str {
    match (resource_type, is_incremental) {
        (None, false) => "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        (None, true) => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        (Some(ResourceType::Secret), false) => "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        (Some(ResourceType::Secret), true) => "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        (Some(ResourceType::Cluster), false) => "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
        (Some(ResourceType::Cluster), true) => "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
        (Some(ResourceType::ClusterLoadAssignment), false) => {
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
        }
        (Some(ResourceType::ClusterLoadAssignment), true) => {
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints"
        }
        (Some(ResourceType::Listener), false) => "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
        (Some(ResourceType::Listener), true) => "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
        (Some(ResourceType::RouteConfiguration), false) => "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
        (Some(ResourceType::RouteConfiguration), true) => "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
    }
}

impl<S> Grpc<S> {
    /// Opens streams through `service`, which connects to one control plane.
    ///
    /// ```
    /// # fn example<S>(channel: S) {
    /// let transport = mesh_xds::client::transport::grpc::Grpc::new(channel);
    /// # }
    /// ```
    pub fn new(service: S) -> Self {
        Self { service, resource_type: None, is_incremental: false, metadata: MetadataMap::new() }
    }

    /// Opens streams of the discovery service for one type of resource.
    #[must_use]
    pub fn for_type(self, resource_type: ResourceType) -> Self {
        Self { resource_type: Some(resource_type), ..self }
    }

    /// Opens streams of the incremental variant of the protocol ("delta xDS"), for a client of that
    /// ([`Agent::incremental`](crate::client::Agent::incremental)).
    #[must_use]
    pub fn incremental(self) -> Self {
        Self { is_incremental: true, ..self }
    }

    /// Adds header fields to the requests. Envoy `GrpcService.initial_metadata`.
    #[must_use]
    pub fn with_metadata(self, headers: HeaderMap) -> Self {
        Self { metadata: MetadataMap::from_headers(headers), ..self }
    }
}

impl<S> Grpc<S>
where
    S: GrpcService<tonic::body::Body>,
    S::ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static,
{
    /// Opens a stream of any method.
    pub(crate) async fn open<Q, R>(
        self,
        method: &'static str,
        requests: impl tonic::codegen::tokio_stream::Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<R>, Status>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.service).max_decoding_message_size(MAX_RESPONSE_BYTES);
        if let Err(error) = client.ready().await {
            return Err(Status::unavailable(with_causes(&*error.into()).to_string()));
        }
        let mut request = requests.into_streaming_request();
        *request.metadata_mut() = self.metadata;
        let codec = ProstCodec::<Q, R>::default();
        let response = client.streaming(request, PathAndQuery::from_static(method), codec).await?;
        Ok(response.into_inner())
    }
}

impl<S> fmt::Debug for Grpc<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").finish_non_exhaustive()
    }
}

impl<S> Transport for Grpc<S>
where
    S: GrpcService<tonic::body::Body, Future: Send> + Clone + Send + 'static,
    S::ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static,
{
    /// The stream is open at once, because a server may wait for the first request before it sends the head of its response.
    /// If the call fails, the stream ends with the reason.
    fn connect(&self) -> impl Future<Output = Result<Stream, Disconnected>> + Send + 'static {
        let (transport, is_incremental) = (self.clone(), self.is_incremental);
        async move {
            let (requests, unsent) = mpsc::channel(CAPACITY);
            let (received, responses) = mpsc::channel(CAPACITY);
            tokio::spawn(async move {
                let carried = async {
                    if is_incremental {
                        carry::<_, DeltaDiscoveryRequest, DeltaDiscoveryResponse>(transport, unsent, &received).await
                    } else {
                        carry::<_, DiscoveryRequest, DiscoveryResponse>(transport, unsent, &received).await
                    }
                };
                tokio::select! {
                    status = carried => {
                        // The client may have ended the stream, too.
                        let _ = received.send(Err(Disconnected { reason: reason(&status) })).await;
                    }
                    () = received.closed() => {}
                }
            });
            Ok(Stream { requests, responses })
        }
    }
}

/// Carries messages until the stream ends; returns how it did.
async fn carry<S, Q, A>(
    transport: Grpc<S>,
    unsent: mpsc::Receiver<Request>,
    received: &mpsc::Sender<Result<Response, Disconnected>>,
) -> Status
where
    Q: Message + From<Request> + 'static,
    A: Message + Into<Response> + Default + 'static,
    S: GrpcService<tonic::body::Body>,
    S::ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static,
{
    let method = method_of(transport.resource_type, transport.is_incremental);
    let opened = transport.open(method, ReceiverStream::new(unsent).map(Q::from)).await;
    let mut responses: Streaming<A> = match opened {
        Ok(responses) => responses,
        Err(status) => return status,
    };
    loop {
        match responses.message().await {
            Ok(Some(response)) => drop(received.send(Ok(response.into())).await),
            Ok(None) => return Status::ok("it closed the stream"),
            Err(status) => return status,
        }
    }
}

/// The status of a stream that has ended, for a log.
pub(crate) fn reason(status: &Status) -> String {
    if status.code() == tonic::Code::Ok {
        return status.message().to_owned();
    }
    let causes = status.source().map(|source| format!(": {}", with_causes(source))).unwrap_or_default();
    format!("{:?}: {}{causes}", status.code(), status.message())
}
