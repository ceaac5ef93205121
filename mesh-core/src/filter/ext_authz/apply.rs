//! Carries out the changes of an allowed request and of its response.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::HOST,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use thiserror::Error;

use super::{Allowed, ChangeAction, HeaderChange, MutationRules};
use crate::value::{AppendAction, HeaderKey};

/// A change makes no valid request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a change by the authorization service makes no valid request")]
pub struct InvalidChange;

/// Headers that say how a message is sent, and not what it is. The service cannot change them: a message would end elsewhere
/// than its receiver thinks.
const FRAMING: [&str; 7] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

fn is_framing(name: &HeaderName) -> bool {
    FRAMING.contains(&name.as_str())
}

/// Carries out the changes of a request that `rules` allow. Whether there are any.
///
/// # Errors
/// If the request would not be valid, or a change is refused by the rules. It may have been changed in part.
pub fn apply_to_request(
    allowed: &Allowed,
    rules: Option<&MutationRules>,
    parts: &mut Parts,
) -> Result<bool, InvalidChange> {
    let passes = |key: &HeaderKey| match rules {
        Some(rules) if !rules.allow(key) => {
            if rules.disallow_is_error {
                Err(InvalidChange)
            } else {
                Ok(false)
            }
        }
        _ => Ok(true),
    };
    for change in &allowed.headers {
        if !passes(&change.key)? {
            continue;
        }
        match &change.key {
            HeaderKey::Field(name) if *name == HOST => set_authority(parts, &change.value)?,
            HeaderKey::Field(name) => apply(change, name, &mut parts.headers)?,
            HeaderKey::Authority => set_authority(parts, &change.value)?,
            HeaderKey::Path => set_path(parts, change.value.as_bytes())?,
            HeaderKey::Method => {
                parts.method = Method::from_bytes(change.value.as_bytes()).map_err(|_| InvalidChange)?;
            }
            HeaderKey::Scheme => return Err(InvalidChange),
        }
    }
    for key in &allowed.headers_to_remove {
        if passes(key)?
            && let HeaderKey::Field(name) = key
            && *name != HOST
            && !is_framing(name)
        {
            parts.headers.remove(name);
        }
    }
    change_query(allowed, parts)?;
    Ok(!allowed.headers.is_empty()
        || !allowed.headers_to_remove.is_empty()
        || !allowed.query_parameters_to_set.is_empty()
        || !allowed.query_parameters_to_remove.is_empty())
}

/// Carries out changes of a response. Changes of pseudo-headers are left out.
pub fn apply_to_response(changes: &[HeaderChange], headers: &mut HeaderMap) {
    for change in changes {
        if let HeaderKey::Field(name) = &change.key {
            // A value that is too long together with another one is left out.
            let _ = apply(change, name, headers);
        }
    }
}

/// The headers of a response to a request that is denied. A header that is set replaces what was added before.
#[must_use]
pub fn headers_of_response(changes: &[HeaderChange]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for HeaderChange { key, value, action } in changes {
        let HeaderKey::Field(name) = key else { continue };
        if is_framing(name) {
            continue;
        }
        match action {
            ChangeAction::Append(AppendAction::AddIfAbsent) if headers.contains_key(name) => {}
            ChangeAction::Append(AppendAction::OverwriteIfExistsOrAdd) => {
                headers.insert(name, value.clone());
            }
            ChangeAction::Append(_) | ChangeAction::Join => {
                headers.append(name, value.clone());
            }
        }
    }
    headers
}

fn apply(change: &HeaderChange, name: &HeaderName, headers: &mut HeaderMap) -> Result<(), InvalidChange> {
    if is_framing(name) {
        return Ok(());
    }
    let is_present = headers.contains_key(name);
    match change.action {
        ChangeAction::Append(AppendAction::AppendIfExistsOrAdd) => {
            headers.append(name, change.value.clone());
        }
        ChangeAction::Append(AppendAction::AddIfAbsent) if is_present => {}
        ChangeAction::Append(AppendAction::OverwriteIfExists) if !is_present => {}
        ChangeAction::Append(_) => {
            headers.insert(name, change.value.clone());
        }
        ChangeAction::Join => {
            if let Some(present) = headers.get(name) {
                let joined = [present.as_bytes(), b",", change.value.as_bytes()].concat();
                let joined = HeaderValue::from_maybe_shared(Bytes::from(joined)).map_err(|_| InvalidChange)?;
                headers.insert(name, joined);
            }
        }
    }
    Ok(())
}

fn set_authority(parts: &mut Parts, value: &HeaderValue) -> Result<(), InvalidChange> {
    let authority = Authority::try_from(value.as_bytes()).map_err(|_| InvalidChange)?;
    if authority.as_str().contains('@') {
        return Err(InvalidChange);
    }
    if parts.uri.authority().is_none() {
        parts.headers.insert(HOST, value.clone());
        return Ok(());
    }
    let mut target = parts.uri.clone().into_parts();
    target.authority = Some(authority);
    parts.uri = Uri::from_parts(target).map_err(|_| InvalidChange)?;
    Ok(())
}

fn set_path(parts: &mut Parts, value: &[u8]) -> Result<(), InvalidChange> {
    if value.first() != Some(&b'/') {
        return Err(InvalidChange);
    }
    let path = PathAndQuery::try_from(value).map_err(|_| InvalidChange)?;
    let mut target = parts.uri.clone().into_parts();
    target.path_and_query = Some(path);
    parts.uri = Uri::from_parts(target).map_err(|_| InvalidChange)?;
    Ok(())
}

/// Sets and removes query parameters. As in Envoy, of several of one name the first is kept.
fn change_query(allowed: &Allowed, parts: &mut Parts) -> Result<(), InvalidChange> {
    let Allowed { query_parameters_to_set, query_parameters_to_remove, .. } = allowed;
    if query_parameters_to_set.is_empty() && query_parameters_to_remove.is_empty() {
        return Ok(());
    }
    let mut parameters: Vec<(&str, &str)> = Vec::new();
    for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.push((name, value));
    }
    for (name, value) in query_parameters_to_set {
        parameters.retain(|(other, _)| *other != &**name);
        parameters.push((name, value));
    }
    parameters.retain(|(name, _)| !query_parameters_to_remove.iter().any(|removed| **removed == **name));
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let separator = if query.is_empty() { "" } else { "?" };
    let path = format!("{}{separator}{}", parts.uri.path(), query.join("&"));
    set_path(parts, path.as_bytes())
}
