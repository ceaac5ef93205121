//! The `x-request-id` header. Envoy "HTTP header manipulation".

use http::{HeaderMap, HeaderName, HeaderValue};

/// `x-request-id`: an ID that all hops of a request share.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What happens to an ID that a request has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is kept, because the request is internal or `preserve_external_request_id` is set.
    Keep,
    /// It is replaced, because the request is external.
    Replace,
}

/// Ensures that a request has an ID. `random` returns two random numbers, and is called if an ID is generated.
pub fn ensure(headers: &mut HeaderMap, existing: Existing, random: impl FnOnce() -> [u64; 2]) {
    if existing == Existing::Replace || !headers.contains_key(&X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, generate(random()));
    }
}

/// Makes a UUID of version 4 (RFC 9562 section 5.4) from two random numbers.
#[must_use]
pub fn generate([high, low]: [u64; 2]) -> HeaderValue {
    let high = high & 0xffff_ffff_ffff_0fff | 0x4000;
    let low = low & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
    header_value(u128::from(high) << 64 | u128::from(low))
}

fn header_value(uuid: u128) -> HeaderValue {
    const GROUPS: [std::ops::Range<usize>; 5] = [0..8, 9..13, 14..18, 19..23, 24..36];
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut bytes = uuid.to_be_bytes().into_iter();
    for group in GROUPS {
        for (digits, byte) in text[group].chunks_exact_mut(2).zip(&mut bytes) {
            digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_4() {
        assert_eq!(generate([0, 0]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(generate([u64::MAX, u64::MAX]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(generate([0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef]), "01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn an_existing_id_is_kept_or_replaced() {
        let mut headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_static("mine"))]);
        ensure(&mut headers, Existing::Keep, || unreachable!("no id is needed"));
        assert_eq!(headers[X_REQUEST_ID], "mine");
        ensure(&mut headers, Existing::Replace, || [0, 0]);
        assert_eq!(headers[X_REQUEST_ID], generate([0, 0]));
    }
}
