//! W3C trace context: the `traceparent` header (<https://www.w3.org/TR/trace-context/>).
//!
//! The mesh exports no spans, so it forwards `traceparent` and `tracestate` unchanged: a new parent ID would refer to a
//! span that does not exist. A library channel starts a trace if there is none, so that the logs of all hops share an ID;
//! a proxy does not.

use std::{fmt, io::Write as _};

use http::{HeaderMap, HeaderName, HeaderValue};

/// `traceparent`: trace and span of the caller.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`: vendor-specific data of the trace.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const HEADER_LENGTH: usize = 55;

/// A position in a trace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// ID of the trace; never zero.
    pub trace_id: u128,
    /// ID of the span that the request belongs to; never zero.
    pub parent_id: u64,
    /// Flags of version 00; bit 0 is "sampled".
    pub trace_flags: u8,
}

impl TraceParent {
    /// Parses the header's value. Later versions are read as version 00, and what they append is ignored; version `ff` is
    /// invalid.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(HEADER_LENGTH)?;
        let fields = [(0, 2), (3, 35), (36, 52), (53, 55)];
        let [version, trace_id, parent_id, trace_flags] = fields.map(|(start, end)| hexadecimal(&known[start..end]));
        let version = version?;
        let dashed = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let ended = rest.is_empty() || (version != 0 && rest[0] == b'-');
        if !dashed || !ended || version == 0xff {
            return None;
        }
        let parsed = Self {
            trace_id: trace_id?,
            parent_id: u64::try_from(parent_id?).ok()?,
            trace_flags: u8::try_from(trace_flags?).ok()?,
        };
        (parsed.trace_id != 0 && parsed.parent_id != 0).then_some(parsed)
    }

    /// The caller's position, if the request has exactly one `traceparent` and it is valid.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let parsed = Self::parse(lines.next()?.as_bytes())?;
        lines.next().is_none().then_some(parsed)
    }

    /// Starts a trace that is not sampled, from three random numbers.
    #[must_use]
    pub fn generate([high, low, parent]: [u64; 3]) -> Self {
        let trace_id = u128::from(high) << 64 | u128::from(low);
        Self { trace_id: trace_id.max(1), parent_id: parent.max(1), trace_flags: 0 }
    }

    /// Whether the caller samples the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.trace_flags & 1 != 0
    }

    /// The value of `traceparent`.
    #[must_use]
    pub fn to_header_value(self) -> HeaderValue {
        header_value(self)
    }
}

fn header_value(parent: TraceParent) -> HeaderValue {
    let mut text = [0; HEADER_LENGTH];
    write!(&mut text[..], "{parent}").expect("the text is as long as the buffer");
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are visible ASCII")
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.trace_flags)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ensures that a request belongs to a trace, and returns it. A valid `traceparent` is kept. Otherwise a new trace is
/// started from three random numbers, and `tracestate` is removed.
pub fn ensure(headers: &mut HeaderMap, random: impl FnOnce() -> [u64; 3]) -> TraceParent {
    TraceParent::of(headers).unwrap_or_else(|| {
        let begun = TraceParent::generate(random());
        headers.insert(TRACEPARENT, begun.to_header_value());
        headers.remove(TRACESTATE);
        begun
    })
}

/// Parses hexadecimal digits, in lower case only as the standard requires.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn malformed_values_are_not_a_traceparent() {
        let parsed = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.is_sampled()), (VALID, true));
        assert_eq!(parsed.to_header_value(), VALID);
        let future = VALID.replacen("00", "01", 1);
        assert_eq!(TraceParent::parse(future.as_bytes()), Some(parsed));
        assert_eq!(TraceParent::parse(format!("{future}-more").as_bytes()), Some(parsed));
        for invalid in [
            String::new(),
            format!("{VALID}-more"),
            format!("{future}more"),
            VALID.to_uppercase(),
            VALID.replacen("00", "ff", 1),
            VALID.replace('-', "_"),
            VALID.replace("00f067aa0ba902b7", "0000000000000000"),
            VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            "é".repeat(40),
        ] {
            assert_eq!(TraceParent::parse(invalid.as_bytes()), None, "{invalid}");
        }
    }

    #[test]
    fn a_valid_trace_is_kept_and_any_other_replaced() {
        let mut headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(VALID))]);
        let kept = ensure(&mut headers, || unreachable!("there is a trace"));
        assert_eq!((kept.to_string(), &headers[TRACEPARENT]), (VALID.to_owned(), &HeaderValue::from_static(VALID)));
        headers.append(TRACEPARENT, HeaderValue::from_static(VALID));
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        let begun = ensure(&mut headers, || [0, 0, 0]);
        assert_eq!(begun.to_string(), "00-00000000000000000000000000000001-0000000000000001-00");
        assert_eq!((headers.len(), TraceParent::of(&headers)), (1, Some(begun)));
    }
}
