//! One query of Consul's HTTP API.

use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ConsulOptions;
use super::index::Index;

/// Longest time that the agent waits for a change.
const WAIT: Duration = Duration::from_secs(300);
/// Longest time for the whole query. The agent adds up to a sixteenth of the wait, so that not all clients ask at once.
const QUERY_TIMEOUT: Duration = Duration::from_secs(330);
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const MAX_BODY_BYTES: usize = 32 << 20;

/// A query has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the connection has failed")]
    Http(#[from] hyper::Error),
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is not what was expected")]
    Json(#[from] serde_json::Error),
    #[error("the address, token or name cannot be sent")]
    Request(#[from] http::Error),
}

/// The agent.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) options: ConsulOptions,
}

impl Client {
    pub(super) fn new(options: ConsulOptions) -> Self {
        Self { options }
    }

    /// Waits for another answer than that of the index. `path` begins with a slash.
    pub(super) async fn query<T: DeserializeOwned>(
        &self,
        path: &str,
        index: Index,
    ) -> Result<(T, Option<u64>), QueryError> {
        let request = self.request(path, index)?;
        let connect = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.options.address));
        let stream = connect.await.map_err(|_| QueryError::Timeout)?.map_err(QueryError::Connect)?;
        timeout(QUERY_TIMEOUT, answer(stream, request)).await.map_err(|_| QueryError::Timeout)?
    }

    fn request(&self, path: &str, index: Index) -> Result<Request<Empty<Bytes>>, QueryError> {
        let mut target = format!("{path}?wait={}s", WAIT.as_secs());
        if let Some(index) = index.poll_query() {
            target.push_str(&format!("&index={index}"));
        }
        if let Some(datacenter) = &self.options.datacenter {
            target.push_str(&format!("&dc={datacenter}"));
        }
        let uri: Uri = target.parse().map_err(http::Error::from)?;
        let mut request = Request::get(uri).header(header::HOST, &self.options.address);
        if let Some(token) = &self.options.token {
            let mut token = HeaderValue::from_str(token).map_err(http::Error::from)?;
            token.set_sensitive(true);
            request = request.header("x-consul-token", token);
        }
        Ok(request.body(Empty::new())?)
    }
}

async fn answer<T: DeserializeOwned>(
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
) -> Result<(T, Option<u64>), QueryError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(QueryError::Status(response.status()));
        }
        let index = response.headers().get("x-consul-index");
        let index = index.and_then(|index| index.to_str().ok()).and_then(|index| index.parse().ok());
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(QueryError::Body)?;
        Ok((serde_json::from_slice(&body.to_bytes())?, index))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The end of the connection may be what ends the answer.
        closed = connection => {
            closed?;
            exchange.await
        }
    }
}
