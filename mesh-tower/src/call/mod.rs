//! A request in the data plane: its body, stream info, local replies, and the recorder of its telemetry.
//!
//! Heads of requests and responses are large: several hundred bytes with their header maps. A function that takes or
//! returns a head by value may copy it, and a future that holds one is larger. The stages of the pipeline therefore pass a
//! [`Call`] by reference, and the heads are stored in its first future.
//!
//! This module does not import any of the stages that use it.

mod body;
mod held_body;
mod interim;
mod recorder;
mod reply;
mod response_body;
mod stream_info;
mod stream_timeouts;
mod trace;

use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use mesh_core::policy::survey::HeaderSurvey;

pub use body::{Body, BoxError};
pub(crate) use held_body::HeldBody;
pub(crate) use interim::Interim;
pub(crate) use recorder::{DownstreamConnection, HttpTelemetry, Recorder, RequestTelemetry};
pub use reply::{ResponseCause, ResponseDetails};
pub(crate) use reply::{add_flags, flags_of, local_reply};
pub use response_body::ResponseBody;
pub(crate) use response_body::{OnFailure, ResponseCutOff};
pub use stream_info::{ResponseSource, StreamInfo, StreamState, UpstreamTiming};
pub(crate) use stream_timeouts::{StreamExpired, StreamTimeouts};

/// A request and its response.
#[derive(Debug)]
pub struct Call {
    pub(crate) head: Parts,
    /// The body, until the request is sent to a connection or to a service.
    pub(crate) body: Option<Body>,
    /// The response, once there is one.
    pub(crate) response: Option<Response<Body>>,
    /// Passes interim responses to the client's connection; `None` = they are dropped, as in channels.
    pub(crate) interim: Option<Interim>,
    /// The survey of the request headers when the call began.
    pub(crate) survey: HeaderSurvey,
    /// Who switches the protocol of the connections, if the request asks for it.
    pub(crate) tunnelling: Tunnelling,
    /// Whether the head is needed after the request has been sent.
    keeps_head: bool,
}

/// Who switches the protocol of the connections of a request, such as to WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tunnelling {
    /// The program that makes the call. It takes the endpoint's connection with hyper's `OnUpgrade`.
    #[default]
    ByProgram,
    /// This process, if the request asks for it: the bodies of the call can carry the bytes in the new protocol.
    Possible,
    /// This process. The body of the request is what the client sends in the new protocol.
    Requested,
}

impl Call {
    /// Creates a call without a response.
    #[must_use]
    pub fn new(request: Request<Body>) -> Self {
        let survey = HeaderSurvey::of(request.headers());
        let (head, body) = request.into_parts();
        Self {
            head,
            body: Some(body),
            response: None,
            interim: None,
            survey,
            tunnelling: Tunnelling::default(),
            keeps_head: false,
        }
    }

    /// Method, target and headers of the request.
    ///
    /// For a [`Transport`](crate::Transport) that writes the head to a connection. One that needs an owned request calls
    /// [`Call::take_request`].
    #[must_use]
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// Takes the body of the request, which counts as sent from then on. `None` if it was taken before.
    pub fn take_body(&mut self) -> Option<Body> {
        self.body.take()
    }

    /// Takes the request, which counts as sent from then on. `None` if it was taken before. If the head may be needed again,
    /// such as for a retry, it is copied, except for its extensions, which go with the request.
    pub fn take_request(&mut self) -> Option<Request<Body>> {
        let body = self.body.take()?;
        let mut request = Request::new(body);
        if self.keeps_head {
            request.method_mut().clone_from(&self.head.method);
            request.uri_mut().clone_from(&self.head.uri);
            *request.version_mut() = self.head.version;
            request.headers_mut().clone_from(&self.head.headers);
            *request.extensions_mut() = std::mem::take(&mut self.head.extensions);
        } else {
            let (empty, body) = request.into_parts();
            request = Request::from_parts(std::mem::replace(&mut self.head, empty), body);
        }
        Some(request)
    }

    /// Returns a request of which nothing has been sent, so that it can be sent again, even if it is not idempotent.
    pub fn restore(&mut self, request: Request<Body>) {
        let (head, body) = request.into_parts();
        self.head = head;
        self.body = Some(body);
    }

    /// Returns the body of a request of which nothing has been sent, and whose head was not taken.
    pub(crate) fn restore_body(&mut self, body: Body) {
        self.body = Some(body);
    }

    /// Whether the request was taken and not returned.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.body.is_none()
    }

    /// Passes an interim response of the endpoint on to the client.
    pub(crate) fn respond_interim(&mut self, status: StatusCode, headers: HeaderMap) {
        if let Some(interim) = &self.interim {
            interim.push(status, headers);
        }
    }

    /// Sets the response.
    pub fn respond(&mut self, response: Response<Body>) {
        self.response = Some(response);
    }

    /// Keeps the head when the request is sent.
    pub(crate) fn keep_head(&mut self) {
        self.keeps_head = true;
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.survey.is_grpc
    }

    /// Responds with a local reply, and records it in `info`.
    pub(crate) fn reply(&mut self, info: &StreamInfo, reply: mesh_core::local_reply::LocalReply) {
        info.state().observe_local_reply(&reply);
        self.response = Some(local_reply(reply, self.is_grpc()));
    }
}
