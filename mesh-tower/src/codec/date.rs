//! The `date` header of responses, which is formatted once per second and thread.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

thread_local! {
    static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(EPOCH))) };
}

const EPOCH: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// The current date as a header value, RFC 9110 section 5.6.7.
pub(super) fn date() -> HeaderValue {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second
            && let Ok(new) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
        {
            (*last, *value) = (second, new);
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_current_second() {
        assert_eq!(httpdate::fmt_http_date(UNIX_EPOCH), EPOCH);
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for _ in 0..2 {
            let date = httpdate::parse_http_date(date().to_str().unwrap()).unwrap();
            let second = date.duration_since(UNIX_EPOCH).unwrap().as_secs();
            let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            assert!((before..=after).contains(&second), "{second}");
        }
    }
}
