//! gRPC over HTTP/2: content types, status codes and header encodings.
//!
//! Sources: gRPC "PROTOCOL-HTTP2", "HTTP to gRPC Status Code Mapping", "Status codes and their use in gRPC".

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

/// `grpc-status`: the status code.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`: the status message, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `grpc-timeout`: the client's deadline, as a duration.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// `content-type` of gRPC responses.
pub const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The status of a call whose deadline has passed.
pub const DEADLINE_EXCEEDED: u32 = 4;
/// The status of a call that could not connect to the service, or lost the connection.
pub const UNAVAILABLE: u32 = 14;

/// Names of the status codes in camel case and in snake case, by number.
const STATUS_NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// Whether these are the headers of a gRPC request: `content-type` is `application/grpc` or begins with
/// `application/grpc+`. gRPC-Web does not count.
#[must_use]
pub fn is_grpc_request(headers: &HeaderMap) -> bool {
    let content_type = headers.get(&CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(is_grpc_content_type)
}

pub(crate) fn is_grpc_content_type(value: &[u8]) -> bool {
    value.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// The gRPC status that an HTTP status is mapped to.
#[must_use]
pub fn status_of_http(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The gRPC status that the error code of an HTTP/2 reset is mapped to.
#[must_use]
pub fn status_of_reset(error_code: u32) -> u32 {
    match error_code {
        // REFUSED_STREAM
        0x7 => UNAVAILABLE,
        // CANCEL
        0x8 => 1,
        // ENHANCE_YOUR_CALM
        0xb => 8,
        // INADEQUATE_SECURITY
        0xc => 7,
        _ => 13,
    }
}

/// The HTTP status that a gRPC status is mapped to, for outlier detection. Envoy `grpcToHttpStatus`.
#[must_use]
pub fn http_of_status(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// The names of a status, such as `InvalidArgument` and `INVALID_ARGUMENT`; `None` for unassigned numbers.
#[must_use]
pub fn status_names(status: u32) -> Option<(&'static str, &'static str)> {
    STATUS_NAMES.get(usize::try_from(status).ok()?).copied()
}

/// The value of `grpc-status` in response headers or trailers, if it is a number.
#[must_use]
pub fn status_of(headers: &HeaderMap) -> Option<u32> {
    headers.get(&GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Encodes a status message for `grpc-message`: every byte other than visible ASCII without `%` becomes `%XX`.
#[must_use]
pub fn encode_message(message: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if message.bytes().all(plain) {
        return Cow::Borrowed(message);
    }
    let mut encoded = String::with_capacity(message.len() + 8);
    for byte in message.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    Cow::Owned(encoded)
}

/// The value of `grpc-message` for a status message.
#[must_use]
pub fn message_value(message: &str) -> HeaderValue {
    visible_ascii(&encode_message(message))
}

fn visible_ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("an encoded message is visible ASCII")
}

/// Parses `grpc-timeout`: one to eight digits and a unit, one of `H M S m u n`. Returns `None` for anything else.
#[must_use]
pub fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    let number = digits
        .iter()
        .try_fold(0u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_content_types_are_grpc() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            assert_eq!(is_grpc_request(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc_request(&HeaderMap::new()));
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(encode_message("fault filter abort"), "fault filter abort");
        assert_eq!(encode_message("mapped 410 /nothing/M\n"), "mapped 410 /nothing/M%0A");
        assert_eq!(encode_message("100% é"), "100%25 %C3%A9");
    }

    #[test]
    fn timeouts_have_one_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("250m", Some(Duration::from_millis(250))),
            ("0n", Some(Duration::ZERO)),
            ("123456789m", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1s", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(&HeaderValue::from_static(text)), expected, "{text:?}");
        }
    }
}
