//! "Load Reporting Service": what clients say about the requests that they have sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_xds::json;
use mesh_xds::proto::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingService;
use mesh_xds::proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::authenticate::Authenticator;

/// How often clients report, in seconds.
const INTERVAL_SECONDS: i64 = 10;
/// Most clients whose last reports are kept.
const MAX_CLIENTS: usize = 4096;

/// The last report of each client, by the id of its node, while its stream is open.
#[derive(Debug, Default)]
pub(super) struct Loads(Mutex<BTreeMap<String, LoadStatsRequest>>);

impl Loads {
    /// All of them as protobuf-JSON, by the id of the node.
    pub(super) fn to_json(&self) -> Value {
        let reports = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let list = |report: &LoadStatsRequest| {
            report.cluster_stats.iter().filter_map(|it| serde_json::to_value(json::to_json(it)).ok()).collect()
        };
        Value::Object(
            reports.iter().map(|(id, report)| (id.clone(), Value::Array(list(report)))).collect::<Map<_, _>>(),
        )
    }

    fn put(&self, id: &str, report: LoadStatsRequest) {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.len() < MAX_CLIENTS || reports.contains_key(id) {
            reports.insert(id.to_owned(), report);
        }
    }

    fn remove(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The service.
#[derive(Debug)]
pub(super) struct Lrs {
    pub(super) loads: Arc<Loads>,
    pub(super) authenticator: Arc<Authenticator>,
}

#[tonic::async_trait]
impl LoadReportingService for Lrs {
    type StreamLoadStatsStream = ReceiverStream<Result<LoadStatsResponse, Status>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        self.authenticator.caller(&request)?;
        let (responses, stream) = mpsc::channel(1);
        tokio::spawn(receive(Arc::clone(&self.loads), request.into_inner(), responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn receive(
    loads: Arc<Loads>,
    mut requests: Streaming<LoadStatsRequest>,
    responses: mpsc::Sender<Result<LoadStatsResponse, Status>>,
) {
    let mut id = String::new();
    while let Ok(Some(report)) = requests.message().await {
        if let Some(node) = report.node.as_ref().filter(|_| id.is_empty()) {
            id.clone_from(&node.id);
            let interval = prost_types::Duration { seconds: INTERVAL_SECONDS, nanos: 0 };
            let wanted = LoadStatsResponse {
                send_all_clusters: true,
                load_reporting_interval: Some(interval),
                ..LoadStatsResponse::default()
            };
            if responses.send(Ok(wanted)).await.is_err() {
                break;
            }
        }
        if !report.cluster_stats.is_empty() {
            loads.put(&id, report);
        }
    }
    loads.remove(&id);
}
