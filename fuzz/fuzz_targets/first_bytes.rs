//! The first bytes of a connection: a decision about a prefix still holds when more bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_core::listener::{Inspection, inspect_http, inspect_tls};

fuzz_target!(|bytes: &[u8]| {
    let (tls, http) = (inspect_tls(bytes), inspect_http(bytes));
    for end in 0..bytes.len().min(300) {
        let before = inspect_tls(&bytes[..end]);
        assert!(before == Inspection::Incomplete || before == tls);
        let before = inspect_http(&bytes[..end]);
        assert!(before == Inspection::Incomplete || before == http);
    }
});
