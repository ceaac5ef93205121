//! Finding one header among few.
//!
//! [`HeaderMap`] hashes a name, one that it does not know byte by byte. That costs more than looking at all the headers of
//! most requests, whose names mostly differ in their first comparison.

use http::{HeaderMap, HeaderName, HeaderValue};

/// With more headers than this the map's own way is faster.
const FEW: usize = 16;

/// The first value of a header, as [`HeaderMap::get`] gives it.
#[must_use]
pub fn find<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    if headers.len() > FEW {
        return headers.get(name);
    }
    // Going through the names alone is less work, and mostly all there is to do.
    if !headers.keys().any(|present| present == name) {
        return None;
    }
    headers.iter().find(|(present, _)| *present == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_found_among_few_and_among_many() {
        let (wanted, other) = (HeaderName::from_static("x-wanted"), HeaderName::from_static("x-other"));
        for others in [0, FEW - 2, FEW, 10 * FEW] {
            let mut headers = HeaderMap::new();
            for number in 0..others {
                headers.append(HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from(number));
            }
            assert_eq!(find(&headers, &wanted), None, "among {others}");
            headers.append(&wanted, HeaderValue::from_static("first"));
            headers.append(&wanted, HeaderValue::from_static("second"));
            assert_eq!(find(&headers, &wanted).unwrap(), "first", "among {others}");
            assert_eq!(find(&headers, &other), None, "among {others}");
        }
    }
}
