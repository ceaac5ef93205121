//! An Envoy bootstrap file: any text is read or refused, every refused field has a position in the text, and a bootstrap
//! that was read is written as equivalent JSON.
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
            assert!(document.locate(&fault.path()).matched > 0, "{fault} has no position in {text}");
        }
    }
    let printed = json::to_json(&bootstrap).to_string();
    let again: Bootstrap = json::from_text(&printed, "printed.json").expect("written JSON can be read");
    assert_eq!(again.encode_to_vec(), bootstrap.encode_to_vec(), "{printed}");
});
