//! Words of the obvious reader.

use http::{Method, Uri, Version, uri::Authority};

use super::super::super::{Error, MAX_CHUNK_LINE};
use crate::model::Http1Options;

/// The target as a URI, or why it is refused although it is understood.
pub(super) fn target(method: &Method, target: &str, options: Http1Options) -> Result<Result<Uri, Error>, Error> {
    if !target.bytes().all(is_visible) {
        return Err(Error::InvalidStartLine);
    }
    if target.contains('#') {
        return Ok(Err(Error::FragmentInTarget));
    }
    let uri: Uri = if *method == Method::CONNECT {
        let authority: Authority = target.parse().map_err(|_| Error::InvalidTarget)?;
        let (host, port) = target.rsplit_once(':').ok_or(Error::InvalidTarget)?;
        if port.parse::<u16>().is_err() || host.contains('@') {
            return Err(Error::InvalidTarget);
        }
        Uri::from(authority)
    } else if target.starts_with('*') && !(target == "*" && *method == Method::OPTIONS) {
        return Err(Error::InvalidTarget);
    } else if target.starts_with(['/', '*'])
        || (target.starts_with(|first: char| first.is_ascii_alphabetic()) && target.contains("://"))
    {
        target.parse().map_err(|_| Error::InvalidTarget)?
    } else {
        return Err(Error::InvalidStartLine);
    };
    let is_path = target.starts_with('/') || target == "*";
    match (is_path || *method == Method::CONNECT, uri.scheme()) {
        (true, _) => Ok(Ok(uri)),
        (false, None) => Err(Error::InvalidTarget),
        (false, Some(_)) => Ok(if options.allow_absolute_url { Ok(uri) } else { Err(Error::AbsoluteTarget) }),
    }
}

pub(super) fn version(word: &[u8]) -> Result<Version, Error> {
    let digits = word.strip_prefix(b"HTTP/").ok_or(Error::InvalidVersion)?;
    let is_version = digits.len() == 3 && digits[1] == b'.' && digits[0].is_ascii_digit() && digits[2].is_ascii_digit();
    match (is_version, digits) {
        (false, _) => Err(Error::InvalidVersion),
        (true, b"1.1") => Ok(Version::HTTP_11),
        (true, _) => Ok(Version::HTTP_10),
    }
}

/// The size of a chunk, from the line with its end.
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let text = line.strip_suffix(b"\r\n").filter(|_| line.len() <= MAX_CHUNK_LINE)?;
    let digits = text.split(|byte| matches!(byte, b' ' | b'\t' | b';')).next()?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    if text.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return None;
    }
    let digits = str::from_utf8(digits).ok()?.trim_start_matches('0');
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 16).ok() }
}

pub(super) fn number(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok().filter(|text| text.chars().all(|digit| digit.is_ascii_digit()))?;
    text.parse().ok()
}

pub(super) fn words(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty()).collect()
}

pub(super) fn trim(value: &[u8]) -> &[u8] {
    match value {
        [first, rest @ ..] if is_blank(*first) => trim(rest),
        [rest @ .., last] if is_blank(*last) => trim(rest),
        _ => value,
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

pub(super) fn is_visible(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f
}

pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(super) fn has_control(head: &[u8]) -> bool {
    head.iter().any(|byte| byte.is_ascii_control() && !b"\t\r\n".contains(byte))
}
