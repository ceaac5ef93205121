//! The target of a request (RFC 9112 section 3.2).

use bytes::Bytes;
use http::{
    Method, Uri,
    uri::{Authority, Parts, PathAndQuery},
};

use super::Error;

/// A request target that was understood.
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) refused: Option<Error>,
}

/// The target as a URI: a path or `*`, an absolute URI, or an authority for CONNECT.
pub(super) fn parse(method: &Method, target: Bytes, allow_absolute_url: bool) -> Result<Target, Error> {
    // `Uri` also takes UTF-8.
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(Error::InvalidStartLine);
    }
    // A fragment is never sent to a server; `PathAndQuery` would drop it.
    if target.contains(&b'#') {
        return Ok(Target { uri: Uri::default(), refused: Some(Error::FragmentInTarget) });
    }
    let uri = if *method == Method::CONNECT {
        authority(target)?
    } else if target.starts_with(b"/") || (target.starts_with(b"*") && *method == Method::OPTIONS) {
        Uri::from(PathAndQuery::from_maybe_shared(target).map_err(|_| Error::InvalidTarget)?)
    } else if target.starts_with(b"*") {
        return Err(Error::InvalidTarget);
    } else {
        // `Uri` also takes an empty scheme, and an authority alone.
        let has_scheme = target.windows(3).any(|bytes| bytes == b"://");
        if !has_scheme || !target.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(Error::InvalidStartLine);
        }
        let uri = Uri::from_maybe_shared(target).map_err(|_| Error::InvalidTarget)?;
        if uri.scheme().is_none() {
            return Err(Error::InvalidTarget);
        }
        if !allow_absolute_url {
            return Ok(Target { uri: Uri::default(), refused: Some(Error::AbsoluteTarget) });
        }
        uri
    };
    Ok(Target { uri, refused: None })
}

/// The target of CONNECT: a host and a port (RFC 9110 section 9.3.6).
fn authority(target: Bytes) -> Result<Uri, Error> {
    let authority = Authority::from_maybe_shared(target).map_err(|_| Error::InvalidTarget)?;
    if authority.port_u16().is_none() || authority.as_str().contains('@') {
        return Err(Error::InvalidTarget);
    }
    let mut parts = Parts::default();
    parts.authority = Some(authority);
    Uri::from_parts(parts).map_err(|_| Error::InvalidTarget)
}
