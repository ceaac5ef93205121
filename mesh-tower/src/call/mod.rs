//! One request on its way through the data plane, and what belongs to it: its body, what is known about it, the replies
//! that the mesh gives itself, and the record of its end.
//!
//! Heads of requests and responses are large: some hundred bytes, with their header maps. A function that takes or
//! returns one by value may copy it, and a future that holds one has room for it. So the stages of the pipeline hand a
//! [`Call`] by reference, and the heads lie where its first future lies.
//!
//! This is the bottom room of the crate: it imports nothing of the stages above it.

mod body;
mod held_body;
mod recorder;
mod reply;
mod response_body;
mod stream_info;
mod stream_timeouts;

use http::{Request, Response, request::Parts};
use mesh_core::policy::survey::HeaderSurvey;

pub use body::{Body, BoxError};
pub(crate) use held_body::HeldBody;
pub(crate) use recorder::{DownstreamConnection, HttpTelemetry, Recorder, RequestTelemetry};
pub use reply::ResponseDetails;
pub(crate) use reply::{add_flags, flags_of, local_reply};
pub use response_body::ResponseBody;
pub use stream_info::{ResponseSource, StreamInfo, StreamState, UpstreamTiming};
pub(crate) use stream_timeouts::{StreamExpired, StreamTimeouts};

/// One request on its way, and the response that it gets.
#[derive(Debug)]
pub struct Call {
    pub(crate) head: Parts,
    /// The body, until the request is handed to a connection or to a service.
    pub(crate) body: Option<Body>,
    /// The response, once there is one.
    pub(crate) response: Option<Response<Body>>,
    /// What the request's headers held when the call began.
    pub(crate) survey: HeaderSurvey,
    /// The head is still needed after the request has been sent.
    keeps_head: bool,
}

impl Call {
    /// A call that has not been answered.
    #[must_use]
    pub fn new(request: Request<Body>) -> Self {
        let survey = HeaderSurvey::of(request.headers());
        let (head, body) = request.into_parts();
        Self { head, body: Some(body), response: None, survey, keeps_head: false }
    }

    /// Method, target and headers of the request.
    ///
    /// A [`Transport`](crate::Transport) that writes the head to a connection reads it here. One that has to own it takes
    /// the whole request with [`Call::take_request`].
    #[must_use]
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// The body of the request, which counts as sent from now on. `None` if it was taken before.
    pub fn take_body(&mut self) -> Option<Body> {
        self.body.take()
    }

    /// The request, which counts as sent from now on. `None` if it was taken before. The head is copied if
    /// it may be needed again, such as for a retry, except for its extensions, which go with the request.
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

    /// Gives back a request of which nothing has been sent, so that it can be sent again whatever it asks for.
    pub fn restore(&mut self, request: Request<Body>) {
        let (head, body) = request.into_parts();
        self.head = head;
        self.body = Some(body);
    }

    /// Whether the request was taken and not given back.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.body.is_none()
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

    /// Responds in place of an endpoint, and notes why.
    pub(crate) fn reply(&mut self, info: &StreamInfo, reply: mesh_core::local_reply::LocalReply) {
        info.state().observe_local_reply(&reply);
        self.response = Some(local_reply(reply, self.is_grpc()));
    }
}
