//! Numbers as header values without writing them out every time.
//!
//! Milliseconds of a timeout, of a service time, the number of a try: few different numbers, one or more per request. A
//! small cache per thread turns most of them into a reference count.

use std::cell::RefCell;

use http::HeaderValue;

const SLOTS: usize = 256;

thread_local! {
    static CACHE: RefCell<[Option<(u64, HeaderValue)>; SLOTS]> = const { RefCell::new([const { None }; SLOTS]) };
}

/// `number` in decimal.
pub(crate) fn header_number(number: u64) -> HeaderValue {
    CACHE.with_borrow_mut(|cache| {
        let slot = &mut cache[usize::try_from(number % SLOTS as u64).expect("less than SLOTS")];
        match slot {
            Some((cached, value)) if *cached == number => value.clone(),
            _ => slot.insert((number, HeaderValue::from(number))).1.clone(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_share_a_slot_do_not_get_mixed_up() {
        for number in [15_000, 15_000, 15_000 + 256, 15_000, 0, u64::MAX] {
            assert_eq!(header_number(number).to_str().unwrap(), number.to_string());
        }
    }
}
