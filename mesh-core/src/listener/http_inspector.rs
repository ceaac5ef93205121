//! Whether a connection begins with HTTP in plain text. Envoy `http_inspector`.

use super::Inspection;

/// Longest request line, in bytes.
pub const MAX_REQUEST_LINE: usize = 64 * 1024;

/// The connection preface of HTTP/2, RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The version of HTTP that a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectedHttp {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2, with prior knowledge.
    Http2,
}

impl InspectedHttp {
    /// Its name as an application protocol, by which filter chains match it.
    #[must_use]
    pub fn application_protocol(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "h2c",
        }
    }
}

/// Whether a connection that begins with `bytes` is HTTP, and which. A method may be any token (RFC 9110 section 5.6.2);
/// empty lines before the request are not HTTP, as in Envoy.
#[must_use]
pub fn inspect_http(bytes: &[u8]) -> Inspection<InspectedHttp> {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Inspection::Found(InspectedHttp::Http2) } else { Inspection::Incomplete };
    }
    let method_end = bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len());
    if bytes.get(method_end).is_some_and(|byte| *byte != b' ') || method_end == 0 {
        return Inspection::NotFound;
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Inspection::Incomplete };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some([_, ..]), Some([_, ..]), Some(b"HTTP/1.1"), None) => Inspection::Found(InspectedHttp::Http11),
        (Some([_, ..]), Some([_, ..]), Some(b"HTTP/1.0"), None) => Inspection::Found(InspectedHttp::Http10),
        _ => Inspection::NotFound,
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_decides() {
        use Inspection::{Found, Incomplete, NotFound};
        for (bytes, expected) in [
            (&b""[..], Incomplete),
            (b"GET /a HTTP/1.1\r\nhost", Found(InspectedHttp::Http11)),
            (b"POST /a HTTP/1.0\n", Found(InspectedHttp::Http10)),
            (b"M-SEARCH * HTTP/1.1\r\n", Found(InspectedHttp::Http11)),
            (PREFACE, Found(InspectedHttp::Http2)),
            (&PREFACE[..20], Incomplete),
            (b"P", Incomplete),
            (b"PROPFIND / HTTP/1.1\r\n", Found(InspectedHttp::Http11)),
            (b"GET /a HTTP/1.1", Incomplete),
            (b"GET", Incomplete),
            (b"\r\nGET /a HTTP/1.1\r\n", NotFound),
            (b"GET /a\r\n", NotFound),
            (b"GET /a HTTP/3.0\r\n", NotFound),
            (b"\x16\x03\x01", NotFound),
            (b"SSH-2.0-OpenSSH\r\n", NotFound),
            (b"*1\r\n$4\r\nPING\r\n", NotFound),
        ] {
            assert_eq!(inspect_http(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
