//! Peer metadata: any header value is read or refused, and what is read is written so that it reads the same.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use mesh_core::telemetry::peer_metadata::{MAX_LENGTH, decode, encode};

fuzz_target!(|input: &[u8]| {
    // As it comes, and as the message in it.
    for value in [input.to_vec(), STANDARD.encode(input).into_bytes()] {
        let Ok(workload) = decode(&value) else { continue };
        let written = encode(&workload);
        // A name is written twice, so what is just short enough to be read may be too long when it is written.
        if written.len() <= MAX_LENGTH {
            assert_eq!(decode(written.as_bytes()), Ok(workload));
        }
    }
});
