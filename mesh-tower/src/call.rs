//! A request and its answer, in one place.
//!
//! Heads of requests and responses are large: some hundred bytes, with their header maps. Each function that takes or
//! returns one by value may copy it, and each future on the way holds room for it. So the stages of the assembled stack
//! hand a [`Call`] by reference, and the two lie where its first future lies.

use http::{Request, Response, request::Parts};
use mesh_core::policy::survey::HeaderSurvey;

use crate::Body;

/// One request on its way, and the answer that it gets.
#[derive(Debug)]
pub struct Call {
    /// The request, until it is handed to a connection.
    pub request: Option<(Parts, Body)>,
    /// The answer, once there is one.
    pub response: Option<Response<Body>>,
    /// What the request's headers held when the call began.
    pub(crate) survey: HeaderSurvey,
}

impl Call {
    /// A call that has not been answered.
    #[must_use]
    pub fn new(request: Request<Body>) -> Self {
        let survey = HeaderSurvey::of(request.headers());
        Self { request: Some(request.into_parts()), response: None, survey }
    }

    pub(crate) fn answer(&mut self, response: Response<Body>) {
        self.response = Some(response);
    }

    /// The answer, after the stack has served the call.
    pub(crate) fn take_response(&mut self) -> Response<Body> {
        self.response.take().expect("the stack answers every call")
    }
}
