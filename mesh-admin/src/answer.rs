//! Queries and answers.

use http::{HeaderValue, Response, StatusCode, header};
use mesh_tower::Body;

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=UTF-8";

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    /// An answer with status 200 and a text.
    pub fn text(body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, content_type: TEXT, body: body.into() }
    }

    /// An answer with status 200 and a JSON value.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: StatusCode::OK, content_type: JSON, body: format!("{value:#}\n") }
    }

    /// An answer with status 200 and an HTML page.
    pub(crate) fn html(body: String) -> Self {
        Self { status: StatusCode::OK, content_type: HTML, body }
    }

    /// An answer with status 200 and the text `OK`.
    #[must_use]
    pub fn ok() -> Self {
        Self::text("OK\n")
    }

    /// Changes the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
        response
    }
}

/// The query of a request, such as `a=1&b`.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a>(pub(crate) &'a str);

impl Query<'_> {
    /// The percent-decoded value of a parameter; empty if the parameter has no `=`. `None` if there is no such parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
        })
    }

    /// Whether there is such a parameter.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn is(&self, name: &str, expected: &str) -> bool {
        self.get(name).is_some_and(|value| value == expected)
    }
}
