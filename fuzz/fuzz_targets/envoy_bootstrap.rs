//! An Envoy bootstrap file: text is refused or read, and what was read prints as JSON that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_xds::json;
use mesh_xds::proto::envoy::config::bootstrap::v3::Bootstrap;
use prost::Message;

fuzz_target!(|text: &str| {
    let Ok(bootstrap) = json::from_text::<Bootstrap>(text, "input") else { return };
    let printed = json::to_json(&bootstrap).to_string();
    let again: Bootstrap = json::from_text(&printed, "printed").expect("what we print is what we read");
    assert_eq!(again.encode_to_vec(), bootstrap.encode_to_vec(), "{printed}");
});
