//! "Aggregated Discovery Service" over gRPC, in both forms.

use std::sync::Arc;

use mesh_core::causes::with_causes;
use mesh_xds::client::Request;
use mesh_xds::proto::envoy::config::core::v3::Node;
use mesh_xds::proto::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use mesh_xds::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use mesh_xds::resource::ResourceType;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Response as Reply, Status, Streaming};

use super::authenticate::Authenticator;
use super::services::Context;
use crate::server::{ControlPlane, Form, Incoming, Refusal, Response, Wire};

/// Responses that may wait for a client that reads slowly. More would be out of date when it reads them.
const CAPACITY: usize = 4;

/// The service.
#[derive(Debug)]
pub(super) struct Ads {
    control_plane: ControlPlane,
    authenticator: Arc<Authenticator>,
}

impl Ads {
    pub(super) fn new(context: &Context) -> Self {
        Self { control_plane: context.control_plane.clone(), authenticator: Arc::clone(&context.authenticator) }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Reply<Self::StreamAggregatedResourcesStream>, Status> {
        let caller = self.authenticator.caller(&request)?;
        let (responses, stream) = mpsc::channel(CAPACITY);
        let wire = StateOfTheWorld { requests: request.into_inner(), responses, node: None };
        tokio::spawn(self.control_plane.clone().run(wire, caller));
        Ok(Reply::new(ReceiverStream::new(stream)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Reply<Self::DeltaAggregatedResourcesStream>, Status> {
        let caller = self.authenticator.caller(&request)?;
        let (responses, stream) = mpsc::channel(CAPACITY);
        let wire = Incremental { requests: request.into_inner(), responses };
        tokio::spawn(self.control_plane.clone().run(wire, caller));
        Ok(Reply::new(ReceiverStream::new(stream)))
    }
}

struct StateOfTheWorld {
    requests: Streaming<DiscoveryRequest>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    /// That of an earlier request, because clients need not repeat it.
    node: Option<Arc<Node>>,
}

impl StateOfTheWorld {
    /// The request, if it is for a type that there is.
    fn read(&mut self, request: DiscoveryRequest) -> Option<Request> {
        if let Some(node) = request.node {
            self.node = Some(Arc::new(node));
        }
        let Some(resource_type) = ResourceType::from_type_url(&request.type_url) else {
            tracing::debug!(type_url = request.type_url, "there are no resources of this type");
            return None;
        };
        Some(Request {
            resource_type,
            resource_names: Arc::new(request.resource_names.into_iter().map(Arc::from).collect()),
            version_info: request.version_info.into(),
            response_nonce: request.response_nonce.into(),
            node: self.node.clone(),
            error: request.error_detail.map(|status| status.message),
            changes: None,
        })
    }
}

impl Wire for StateOfTheWorld {
    const FORM: Form = Form::StateOfTheWorld;

    async fn receive(&mut self) -> Option<Incoming> {
        loop {
            let request = next(&mut self.requests).await?;
            if let Some(request) = self.read(request) {
                return Some(Incoming::StateOfTheWorld(request));
            }
        }
    }

    async fn send(&mut self, response: Response) -> bool {
        self.responses.send(Ok(response.into())).await.is_ok()
    }

    async fn refuse(&mut self, refusal: Refusal) {
        let _ = self.responses.send(Err(status(&refusal))).await;
    }
}

struct Incremental {
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Wire for Incremental {
    const FORM: Form = Form::Incremental;

    async fn receive(&mut self) -> Option<Incoming> {
        next(&mut self.requests).await.map(|request| Incoming::Incremental(Box::new(request)))
    }

    async fn send(&mut self, response: Response) -> bool {
        self.responses.send(Ok(response.into())).await.is_ok()
    }

    async fn refuse(&mut self, refusal: Refusal) {
        let _ = self.responses.send(Err(status(&refusal))).await;
    }
}

/// The next message; `None` when the stream has ended in any way.
async fn next<M>(requests: &mut Streaming<M>) -> Option<M> {
    match requests.message().await {
        Ok(message) => message,
        Err(status) => {
            tracing::debug!("a stream has ended: {}", with_causes(&status));
            None
        }
    }
}

fn status(refusal: &Refusal) -> Status {
    tracing::warn!("a stream is refused: {refusal}");
    match refusal {
        Refusal::Anonymous | Refusal::Identity(_) => Status::invalid_argument(refusal.to_string()),
        Refusal::OtherIdentity { .. } => Status::unauthenticated(refusal.to_string()),
    }
}
