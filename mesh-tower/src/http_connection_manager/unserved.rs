//! Responses to what is no valid request, or was not complete in time.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Request, Response, Version};
use mesh_core::local_reply::LocalReply;

use super::{
    ConnectionManager,
    response::{self, Persistence, RequestFacts},
};
use crate::{
    Body,
    call::{Call, StreamInfo},
    codec::ConnectionInfo,
};

impl<S> ConnectionManager<S> {
    /// Counts and logs a response to what is no request, and returns it. `since` is the time of its first byte.
    pub(super) fn answer_unserved(
        &self,
        connection: &Arc<ConnectionInfo>,
        reply: LocalReply,
        since: Instant,
    ) -> Response<Bytes> {
        let (mut response, body) = reply.clone().into_response(false).into_parts();
        let facts = RequestFacts { version: Version::HTTP_11, request_id: None, persistence: Persistence::Close };
        response::finish(&mut response, &self.listener.config, facts, true);
        let mut call = Call::new(Request::new(Body::empty()));
        connection.request_started();
        let mut recorder = self.recorder(connection, StreamInfo::new(since), &mut call);
        let info = recorder.info();
        info.add_bytes_sent(body.len() as u64);
        call.reply(info, reply);
        recorder.observe_response(response.status, &response.headers);
        recorder.complete();
        Response::from_parts(response, body)
    }
}
