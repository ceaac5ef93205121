//! What is asked of the admin endpoint, and its answers.

use http::{HeaderValue, Response, StatusCode, header};
use mesh_tower::Body;

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=UTF-8";

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    /// 200 with a text.
    pub fn text(body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, content_type: TEXT, body: body.into() }
    }

    /// 200 with a value.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: StatusCode::OK, content_type: JSON, body: format!("{value:#}\n") }
    }

    /// 200 with a page.
    pub(crate) fn html(body: String) -> Self {
        Self { status: StatusCode::OK, content_type: HTML, body }
    }

    /// It is done.
    #[must_use]
    pub fn ok() -> Self {
        Self::text("OK\n")
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its text.
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

/// The query of a request: `a=1&b`.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a>(pub(crate) &'a str);

impl Query<'_> {
    /// The value of a parameter, percent-decoded; empty if it has none.
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
