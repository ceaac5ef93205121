//! What never became a request, because it is not HTTP or did not come in time: answered by the codec, and recorded all the
//! same.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version, header};
use mesh_core::{local_reply::LocalReply, model::HttpConnectionManager};

use super::{
    ConnectionManager,
    recorder::Recorder,
    response::{self, Origin, Persistence, RequestFacts},
};
use crate::{
    StreamInfo,
    server::{ConnectionInfo, HeadLimit, Unserved},
};

impl<S> ConnectionManager<S> {
    /// Counts and logs what has been answered.
    pub(super) fn record_unserved(&self, connection: Arc<ConnectionInfo>, unserved: Unserved) {
        let (request, ()) = Request::new(()).into_parts();
        connection.request_started();
        let info = StreamInfo::new(unserved.since);
        let mut recorder = Recorder::start(Arc::clone(&self.listener), connection, info, &request);
        let mut state = recorder.observe_connection(request.version);
        state.response_flags = unserved.reply.flags;
        state.response_code_details = Some(unserved.reply.details.clone());
        drop(state);
        let (response, body) = unserved.reply.into_response(false).into_parts();
        recorder.response(&response);
        recorder.add_response_bytes(body.len());
        recorder.complete();
    }
}

/// The limit for heads of requests, if there is one.
pub(super) fn head_limit(config: &HttpConnectionManager) -> Option<HeadLimit> {
    let request_headers_timeout = config.request_headers_timeout.filter(|timeout| !timeout.is_zero())?;
    let (mut response, body) = LocalReply::REQUEST_HEADER_TIMEOUT.into_response(false).into_parts();
    response.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let facts = RequestFacts { version: Version::HTTP_11, request_id: None, persistence: Persistence::Close };
    response::finish(&mut response, config, facts, Origin::Local);
    Some(HeadLimit { request_headers_timeout, answer: encode(&response, &body) })
}

/// The bytes of an HTTP/1.1 response.
fn encode(response: &http::response::Parts, body: &[u8]) -> Bytes {
    let reason = response.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", response.status.as_str()).into_bytes();
    for (name, value) in &response.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes.into()
}
