//! Numbers as header values without writing them out every time.
//!
//! Milliseconds of a timeout, of a service time, the number of a try: few different numbers, one or more per request. Small
//! ones and whole thousands, which timeouts are, are spelled out in the program; a cache per thread turns most others into
//! a reference count.

use std::cell::RefCell;

use http::HeaderValue;

const SLOTS: usize = 64;

thread_local! {
    static CACHE: RefCell<[Option<(u64, HeaderValue)>; SLOTS]> = const { RefCell::new([const { None }; SLOTS]) };
}

/// `number` in decimal.
pub(crate) fn header_number(number: u64) -> HeaderValue {
    match usize::try_from(number) {
        Ok(small @ ..1_000) => HeaderValue::from_static(spelled(small, 3)),
        Ok(thousands @ ..1_000_000) if thousands % 1_000 == 0 => {
            HeaderValue::from_static(spelled(thousands / 1_000, 6))
        }
        Ok(_) | Err(_) => cached(number),
    }
}

fn cached(number: u64) -> HeaderValue {
    CACHE.with_borrow_mut(|cache| {
        let slot = &mut cache[usize::try_from(number % SLOTS as u64).expect("less than SLOTS")];
        match slot {
            Some((cached, value)) if *cached == number => value.clone(),
            _ => slot.insert((number, HeaderValue::from(number))).1.clone(),
        }
    })
}

/// Digits of a [`SPELLED`] number.
const DIGITS: usize = 6;

/// The numbers below 1000, each with leading zeros and a thousand times as large.
static SPELLED: &str = {
    const TEXT: [u8; 1_000 * DIGITS] = spell();
    match std::str::from_utf8(&TEXT) {
        Ok(text) => text,
        Err(_) => panic!("digits are ASCII"),
    }
};

const fn spell() -> [u8; 1_000 * DIGITS] {
    let mut digits = [b'0'; 1_000 * DIGITS];
    let mut number = 0;
    while number < 1_000 {
        digits[number * DIGITS] = b"0123456789"[number / 100];
        digits[number * DIGITS + 1] = b"0123456789"[number / 10 % 10];
        digits[number * DIGITS + 2] = b"0123456789"[number % 10];
        number += 1;
    }
    digits
}

/// The first `digits` digits of a [`SPELLED`] number, without leading zeros.
fn spelled(number: usize, digits: usize) -> &'static str {
    let leading_zeros = usize::from(number < 10) + usize::from(number < 100);
    &SPELLED[number * DIGITS..][leading_zeros..digits]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal_whichever_way_they_are_kept() {
        let large = [15_000, 15_000, 15_000 + SLOTS as u64, 15_000, u64::MAX];
        let thousands = (0..1_002).map(|number| number * 1_000);
        for number in (0..1_100).chain(thousands).chain(large) {
            assert_eq!(header_number(number).to_str().unwrap(), number.to_string());
        }
    }
}
