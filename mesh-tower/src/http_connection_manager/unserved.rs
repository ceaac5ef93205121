//! Records what the codec responds to itself, because it is not a valid request or was not complete in time.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version, header};
use mesh_core::{local_reply::LocalReply, model::HttpConnectionManager};

use super::{
    ConnectionManager,
    response::{self, Persistence, RequestFacts},
};
use crate::{
    Body,
    call::{Call, StreamInfo},
    codec::{ConnectionInfo, HeadLimit, Unserved},
};

impl<S> ConnectionManager<S> {
    /// Counts and logs a response of the codec.
    pub(super) fn record_unserved(&self, connection: &Arc<ConnectionInfo>, unserved: Unserved) {
        let mut call = Call::new(Request::new(Body::empty()));
        connection.request_started();
        let mut recorder = self.recorder(connection, StreamInfo::new(unserved.since), &mut call);
        let info = recorder.info();
        let body = unserved.reply.body.clone();
        info.add_bytes_sent(body.len() as u64);
        call.reply(info, unserved.reply);
        if let Some(response) = &call.response {
            recorder.observe_response(response.status(), response.headers());
        }
        recorder.complete();
    }
}

/// The timeout of request headers, if there is one.
pub(super) fn head_limit(config: &HttpConnectionManager) -> Option<HeadLimit> {
    let request_headers_timeout = config.request_headers_timeout.filter(|timeout| !timeout.is_zero())?;
    let (mut response, body) = LocalReply::REQUEST_HEADER_TIMEOUT.into_response(false).into_parts();
    response.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let facts = RequestFacts { version: Version::HTTP_11, request_id: None, persistence: Persistence::Close };
    response::finish(&mut response, config, facts, true);
    Some(HeadLimit { request_headers_timeout, answer: encode(&response, &body) })
}

/// Encodes an HTTP/1.1 response.
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
