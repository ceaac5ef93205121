//! JSON Web Tokens and key sets: nothing panics, and a token has one spelling only.
#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use mesh_core::filter::jwt_authn::{Jwks, Jwt, Sections, claim, header_value};

fuzz_target!(|input: &[u8]| {
    let keys = Jwks::parse(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Most inputs are no base64url, so header and payload may also be given in plain text, on a line each.
    let token = match text.split_once('\n') {
        Some((header, payload)) => {
            format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
        }
        None => text.to_owned(),
    };
    let Ok(jwt) = Jwt::parse(&token) else { return };
    let sections = Sections::of(&token).expect("a token that was read has three sections");
    for section in [sections.header, sections.payload, sections.signature] {
        let bytes = URL_SAFE_NO_PAD.decode(section).expect("a token that was read is base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(bytes), section, "another spelling of the same bytes");
    }
    if let Some(value) = claim(&jwt.payload, &["a".into()])
        && let Ok(Some(value)) = header_value(value)
    {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    if let Ok(keys) = keys {
        let _ = keys.candidates(&jwt).map(Iterator::count);
    }
});
