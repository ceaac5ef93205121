//! A service that is asked over HTTP: the check is a request with some of the request's headers, and status 200 allows it.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_LENGTH, HOST},
    response,
    uri::PathAndQuery,
};

use super::{Allowed, Authorization, ChangeAction, CheckRequest, Denied, HeaderChange};
use crate::value::{ClusterName, HeaderKey, MetadataValue, StringMatcher};

/// What a check has in any case.
pub(super) const NECESSARY: [&str; 4] = [":authority", ":method", ":path", "authorization"];

/// What a response to a denied request has in any case, if some headers are allowed by name.
const NECESSARY_IN_RESPONSES: [&str; 3] = ["content-length", "www-authenticate", "location"];

/// Names of the headers that an allowed request loses; the service sends it.
const HEADERS_TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Headers that concern the connection to the service, and not the message.
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// A service that is asked over HTTP. Envoy `filters.http.ext_authz.v3.HttpService`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpService {
    /// Its cluster.
    pub cluster: ClusterName,
    /// How long a check may take; zero = unlimited. Required by Envoy.
    pub timeout: Duration,
    /// Put before the path of the check; empty = nothing.
    pub path_prefix: Box<str>,
    /// Headers of the check, which replace those of the request.
    pub headers_to_add: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the service's response that replace those of an allowed request. Default none.
    pub allowed_upstream_headers: Vec<StringMatcher>,
    /// Headers of the service's response that are added to headers which an allowed request has. Default none.
    pub allowed_upstream_headers_to_append: Vec<StringMatcher>,
    /// Headers of the service's response that the response to a denied request gets; empty = all.
    pub allowed_client_headers: Vec<StringMatcher>,
    /// Headers of the service's response that the response to an allowed request gets. Default none.
    pub allowed_client_headers_on_success: Vec<StringMatcher>,
    /// Headers of the service's response that become dynamic metadata. Default none.
    pub dynamic_metadata_from_headers: Vec<StringMatcher>,
}

impl HttpService {
    /// A service that is asked without changes of the path.
    #[must_use]
    pub fn new(cluster: impl Into<ClusterName>, timeout: Duration) -> Self {
        Self {
            cluster: cluster.into(),
            timeout,
            path_prefix: "".into(),
            headers_to_add: Vec::new(),
            allowed_upstream_headers: Vec::new(),
            allowed_upstream_headers_to_append: Vec::new(),
            allowed_client_headers: Vec::new(),
            allowed_client_headers_on_success: Vec::new(),
            dynamic_metadata_from_headers: Vec::new(),
        }
    }

    /// The request to the service; `None` if there is none with the prefix and the request's path.
    #[must_use]
    pub fn request(&self, check: &CheckRequest) -> Option<Request<Bytes>> {
        let body = check.body.clone().unwrap_or_default();
        let mut request = Request::new(body);
        let path = [&*self.path_prefix, &*check.path].concat();
        let path = if path.is_empty() { "/" } else { &path };
        *request.uri_mut() = Uri::from(PathAndQuery::try_from(path).ok()?);
        *request.method_mut() = Method::from_bytes(check.method.as_bytes()).ok()?;
        let length = HeaderValue::from(request.body().len());
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&check.host).ok()?);
        for (name, value) in &check.headers {
            // Pseudo-headers have been set above.
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            headers.append(name, HeaderValue::from_maybe_shared(value.clone()).ok()?);
        }
        for (name, value) in &self.headers_to_add {
            headers.insert(name, value.clone());
        }
        headers.insert(CONTENT_LENGTH, length);
        Some(request)
    }

    /// What the service's response says.
    #[must_use]
    pub fn authorization(&self, head: &response::Parts, body: Bytes) -> Authorization {
        if head.status.is_server_error() {
            return Authorization::Failed(None);
        }
        let dynamic_metadata = self.dynamic_metadata(head);
        if head.status != StatusCode::OK {
            let headers = self.select(head, |name| self.is_for_denied(name), HeaderChange::add);
            let status = Some(head.status);
            return Authorization::Denied(Box::new(Denied { status, headers, body, dynamic_metadata }));
        }
        let is_any = |matchers: &[StringMatcher], name: &str| matchers.iter().any(|matcher| matcher.matches(name));
        let mut headers = self.select(head, |name| is_any(&self.allowed_upstream_headers, name), HeaderChange::set);
        headers.extend(self.select(
            head,
            |name| is_any(&self.allowed_upstream_headers_to_append, name),
            |key, value| HeaderChange::new(key, value, ChangeAction::Join),
        ));
        Authorization::Allowed(Box::new(Allowed {
            headers,
            headers_to_remove: headers_to_remove(head),
            response_headers: self.select(
                head,
                |name| is_any(&self.allowed_client_headers_on_success, name),
                HeaderChange::add,
            ),
            dynamic_metadata,
            ..Allowed::default()
        }))
    }

    fn is_for_denied(&self, name: &str) -> bool {
        let allowed = &self.allowed_client_headers;
        allowed.is_empty()
            || NECESSARY_IN_RESPONSES.contains(&name)
            || allowed.iter().any(|matcher| matcher.matches(name))
    }

    /// The headers of a response that are selected by name, as changes.
    #[expect(clippy::unused_self, reason = "a method like its callers")]
    fn select(
        &self,
        head: &response::Parts,
        is_selected: impl Fn(&str) -> bool,
        change: impl Fn(HeaderKey, HeaderValue) -> HeaderChange,
    ) -> Vec<HeaderChange> {
        let selected = head.headers.iter().filter(|(name, _)| {
            let name = name.as_str();
            let is_of_message = !HOP_BY_HOP.contains(&name) && name != "host" && name != HEADERS_TO_REMOVE.as_str();
            is_of_message && name != CONTENT_LENGTH.as_str() && is_selected(name)
        });
        selected.map(|(name, value)| change(HeaderKey::Field(name.clone()), value.clone())).collect()
    }

    fn dynamic_metadata(&self, head: &response::Parts) -> MetadataValue {
        if self.dynamic_metadata_from_headers.is_empty() {
            return MetadataValue::Null;
        }
        let is_selected = |name: &str| self.dynamic_metadata_from_headers.iter().any(|matcher| matcher.matches(name));
        let selected = head.headers.iter().filter(|(name, _)| is_selected(name.as_str()));
        let text = |value: &HeaderValue| MetadataValue::String(String::from_utf8_lossy(value.as_bytes()).into());
        MetadataValue::Object(selected.map(|(name, value)| (name.as_str().into(), text(value))).collect())
    }
}

fn headers_to_remove(head: &response::Parts) -> Vec<HeaderKey> {
    let lists = head.headers.get_all(HEADERS_TO_REMOVE).into_iter().filter_map(|value| value.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).map(HeaderKey::Field).collect()
}
