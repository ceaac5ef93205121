//! Peer metadata: any header value is decoded or refused, and encoding inverts decoding.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use mesh_core::telemetry::peer_metadata::{MAX_LENGTH, decode, encode};

fuzz_target!(|input: &[u8]| {
    // The input as a header value, and as the message in one.
    for value in [input.to_vec(), STANDARD.encode(input).into_bytes()] {
        let Ok(workload) = decode(&value) else { continue };
        let written = encode(&workload);
        // A name is encoded twice, so a value of almost the maximum length may exceed it when it is encoded again.
        if written.len() <= MAX_LENGTH {
            assert_eq!(decode(written.as_bytes()), Ok(workload));
        }
    }
});
