//! Changes of a request's headers.

use http::{HeaderMap, header::HOST, request::Parts, uri::PathAndQuery};
use mesh_core::{model::HeaderMutations, policy::header_mutation, telemetry::Attributes};

/// Changes the headers of a request, level by level. The attributes of the request itself need not be in `known`.
pub(crate) fn apply_to_request<'m>(
    levels: impl IntoIterator<Item = &'m HeaderMutations>,
    parts: &mut Parts,
    known: &Attributes<'_>,
) {
    change_request(parts, known, |headers, attributes| {
        header_mutation::apply_to_request(levels, headers, attributes);
    });
}

/// Calls `change` with the headers of a request, and with `known` and the attributes of the request except its headers.
pub(crate) fn change_request(
    parts: &mut Parts,
    known: &Attributes<'_>,
    change: impl FnOnce(&mut HeaderMap, &Attributes<'_>),
) {
    let mut headers = std::mem::take(&mut parts.headers);
    let host = headers.get(HOST).cloned();
    let authority = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => host.as_ref().and_then(|host| host.to_str().ok()),
    };
    let attributes = Attributes {
        method: Some(&parts.method),
        scheme: Some(parts.uri.scheme_str().unwrap_or("http")),
        authority,
        path: parts.uri.path_and_query().map(PathAndQuery::as_str),
        ..*known
    };
    change(&mut headers, &attributes);
    parts.headers = headers;
}
