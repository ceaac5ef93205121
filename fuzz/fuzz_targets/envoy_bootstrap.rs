//! An Envoy bootstrap file: text is refused or read, what is refused of it has a place in the text, and what was read
//! prints as JSON that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_xds::bootstrap;
use mesh_xds::json::{self, Document};
use mesh_xds::proto::envoy::config::bootstrap::v3::Bootstrap;
use prost::Message;

fuzz_target!(|text: &str| {
    let Ok(document) = Document::parse(text, "input") else { return };
    let Ok(bootstrap) = document.read::<Bootstrap>() else { return };
    if let Err(error) = bootstrap::from_proto(&bootstrap) {
        for fault in &error.faults {
            assert!(document.locate(&fault.path()).matched > 0, "{fault} stands nowhere in {text}");
        }
    }
    let printed = json::to_json(&bootstrap).to_string();
    let again: Bootstrap = json::from_text(&printed, "printed").expect("what we print is what we read");
    assert_eq!(again.encode_to_vec(), bootstrap.encode_to_vec(), "{printed}");
});
