//! Numbers and addresses as text. A log line has a dozen of them, and `std::fmt` takes about 30 ns for each.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

/// Digits of the largest `u64`.
const MAX_DIGITS: usize = 20;

/// Appends `number` with leading zeros up to `width` digits, at most 20.
pub(crate) fn decimal(mut number: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    while number > 0 {
        start -= 1;
        digits[start] = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
    out.extend_from_slice(&digits[start.min(MAX_DIGITS - width.min(MAX_DIGITS))..]);
}

/// Appends an address.
pub(crate) fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (position, octet) in address.octets().into_iter().enumerate() {
                out.extend_from_slice(if position == 0 { b"" } else { b"." });
                decimal(octet.into(), 1, out);
            }
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("writing to memory does not fail"),
    }
}

/// Appends an address with its port.
pub(crate) fn socket(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(_) => {
            ip(address.ip(), out);
            out.push(b':');
            decimal(address.port().into(), 1, out);
        }
        SocketAddr::V6(address) => write!(out, "{address}").expect("writing to memory does not fail"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_written_as_std_does() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            assert_eq!(text(|out| decimal(number, 1, out)), number.to_string());
            assert_eq!(text(|out| decimal(number, 9, out)), format!("{number:09}"));
        }
        for address in ["10.0.0.255:65535", "0.0.0.0:0", "[2001:db8::1]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(text(|out| socket(address, out)), address.to_string());
            assert_eq!(text(|out| ip(address.ip(), out)), address.ip().to_string());
        }
    }
}
