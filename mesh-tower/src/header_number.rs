//! Numbers as header values without writing them out every time.
//!
//! Milliseconds of a timeout, of a service time, the number of a try: few different numbers, one or more per request. Small
//! ones are spelled out in the program; a cache per thread turns most others into a reference count.

use std::cell::RefCell;

use http::HeaderValue;

const SLOTS: usize = 64;

thread_local! {
    static CACHE: RefCell<[Option<(u64, HeaderValue)>; SLOTS]> = const { RefCell::new([const { None }; SLOTS]) };
}

/// `number` in decimal.
pub(crate) fn header_number(number: u64) -> HeaderValue {
    match usize::try_from(number) {
        Ok(small @ ..1000) => HeaderValue::from_static(spelled(small)),
        _ => cached(number),
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

/// The numbers below 1000, each with leading zeros.
static DIGITS: [u8; 3000] = {
    let mut digits = [b'0'; 3000];
    let mut position = 0;
    while position < digits.len() {
        let number = position / 3;
        let divisor = [100, 10, 1][position % 3];
        digits[position] = b"0123456789"[number / divisor % 10];
        position += 1;
    }
    digits
};

fn spelled(number: usize) -> &'static str {
    let leading_zeros = usize::from(number < 10) + usize::from(number < 100);
    let digits = &DIGITS[number * 3 + leading_zeros..number * 3 + 3];
    std::str::from_utf8(digits).expect("digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal_whichever_way_they_are_kept() {
        let large = [15_000, 15_000, 15_000 + SLOTS as u64, 15_000, u64::MAX];
        for number in (0..1_100).chain(large) {
            assert_eq!(header_number(number).to_str().unwrap(), number.to_string());
        }
    }
}
