//! Where tokens are in a request: headers, parameters of the query, cookies.
//!
//! Every token of a location counts, so that a request cannot show one to this filter and another one to the service. The
//! scheme of a header (`Bearer `) is compared without case, as RFC 9110 requires. Envoy's `Extractor` differs in both.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Uri, header::COOKIE, uri::PathAndQuery};

use super::provider::Provider;
use crate::request::{RequestHead, split_query};

/// The places where the tokens of one or several providers may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extractor {
    places: Vec<(Place, Issuers)>,
}

/// A place where a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Header { name: HeaderName, prefix: Box<str> },
    Param(Box<str>),
    Cookie(Box<str>),
}

/// The issuers whose tokens may be in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Issuers {
    Any,
    OneOf(Vec<Box<str>>),
}

/// A token that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'c, 'r> {
    /// The text of the token.
    pub token: Cow<'r, str>,
    /// Its place, which the filter's configuration has.
    pub location: Location<'c>,
}

/// The place of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'c> {
    place: &'c Place,
    issuers: &'c Issuers,
}

impl Extractor {
    pub(super) fn of<'p>(providers: impl IntoIterator<Item = &'p Provider>) -> Self {
        let mut places = Vec::new();
        for provider in providers {
            let locations = &provider.locations;
            let headers = locations
                .headers
                .iter()
                .map(|(name, prefix)| Place::Header { name: name.clone(), prefix: prefix.clone() });
            let params = locations.params.iter().cloned().map(Place::Param);
            let cookies = locations.cookies.iter().cloned().map(Place::Cookie);
            for place in headers.chain(params).chain(cookies) {
                add(&mut places, place, &provider.issuer);
            }
        }
        Self { places }
    }

    /// The tokens of a request: those in headers first, then parameters, then cookies.
    pub(super) fn tokens<'r>(&self, request: &RequestHead<'r>) -> Vec<Found<'_, 'r>> {
        let mut found = Vec::new();
        for (place, issuers) in &self.places {
            let mut push = |token| found.push(Found { token, location: Location { place, issuers } });
            match place {
                Place::Header { name, prefix } => {
                    for value in request.headers.get_all(name) {
                        // A value that is not a text is a token, but not a valid one.
                        let value = value.to_str().unwrap_or("");
                        if let Some(token) = after_prefix(value, prefix) {
                            push(Cow::Borrowed(token));
                        }
                    }
                }
                Place::Param(name) => {
                    let pairs = request.query().unwrap_or_default().split('&');
                    pairs.filter_map(|pair| value_of(pair, name)).for_each(&mut push);
                }
                Place::Cookie(name) => {
                    for value in cookies(request.headers, name) {
                        push(Cow::Borrowed(value));
                    }
                }
            }
        }
        found
    }
}

fn add(places: &mut Vec<(Place, Issuers)>, place: Place, issuer: &str) {
    let (_, issuers) = match places.iter().position(|(other, _)| *other == place) {
        Some(position) => &mut places[position],
        None => {
            places.push((place, Issuers::OneOf(Vec::new())));
            places.last_mut().expect("one has been added")
        }
    };
    match issuers {
        _ if issuer.is_empty() => *issuers = Issuers::Any,
        Issuers::Any => {}
        Issuers::OneOf(known) => known.push(issuer.into()),
    }
}

impl Location<'_> {
    /// Whether a token of `issuer` may be there.
    #[must_use]
    pub fn allows(self, issuer: &str) -> bool {
        match self.issuers {
            Issuers::Any => true,
            Issuers::OneOf(issuers) => issuers.iter().any(|allowed| **allowed == *issuer),
        }
    }

    /// Removes the token from the request: the whole header, the parameter, or the cookie. Envoy leaves cookies.
    pub fn remove_token(self, uri: &mut Uri, headers: &mut HeaderMap) {
        match self.place {
            Place::Header { name, .. } => {
                headers.remove(name);
            }
            Place::Param(name) => remove_param(uri, name),
            Place::Cookie(name) => remove_cookie(headers, name),
        }
    }
}

/// The characters of tokens.
fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// The token behind `prefix`, which may be anywhere in `value`. Characters that no token has may be between them.
fn after_prefix<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    if prefix.is_empty() {
        return Some(value);
    }
    // The prefix is the scheme of credentials.
    let is_scheme = prefix.ends_with(' ');
    let (value_bytes, prefix_bytes) = (value.as_bytes(), prefix.as_bytes());
    let position = value_bytes.windows(prefix_bytes.len()).position(|window| match is_scheme {
        true => window.eq_ignore_ascii_case(prefix_bytes),
        false => window == prefix_bytes,
    })?;
    // The prefix is a text, so that it ends at the boundary of a character.
    let rest = value.get(position + prefix.len()..).unwrap_or("");
    Some(rest.trim_start_matches(|c| !is_token_character(c)))
}

/// The value of `pair`, if its name is `name`. Both may be percent-encoded.
fn value_of<'q>(pair: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    (percent_decoded(key) == name).then(|| percent_decoded(value))
}

/// Decodes `%2E`; other text stays as it is.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    let (bytes, mut decoded, mut position) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(position) {
        match (byte, digit(bytes.get(position + 1)), digit(bytes.get(position + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                position += 3;
            }
            _ => {
                decoded.push(*byte);
                position += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8(decoded).unwrap_or_default())
}

fn remove_param(uri: &mut Uri, name: &str) {
    let Some(path_and_query) = uri.path_and_query() else { return };
    let (path, Some(query)) = split_query(path_and_query.as_str()) else { return };
    let kept: Vec<&str> = query.split('&').filter(|pair| value_of(pair, name).is_none()).collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    let text = format!("{path}{separator}{}", kept.join("&"));
    let mut parts = std::mem::take(uri).into_parts();
    // A part of a valid query is valid.
    parts.path_and_query = PathAndQuery::try_from(text).ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// The values of the cookie `name`, without quotes.
fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(move |pair| {
        let value = cookie_of(pair, name)?;
        Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    })
}

fn cookie_of<'p>(pair: &'p str, name: &str) -> Option<&'p str> {
    let (key, value) = pair.trim().split_once('=')?;
    (key == name).then_some(value)
}

fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let lines: Vec<_> = headers.get_all(COOKIE).into_iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let Ok(text) = line.to_str() else {
            headers.append(COOKIE, line);
            continue;
        };
        let kept: Vec<&str> = text.split(';').filter(|pair| cookie_of(pair, name).is_none()).map(str::trim).collect();
        if let (false, Ok(value)) = (kept.is_empty(), kept.join("; ").parse()) {
            headers.append(COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests;
