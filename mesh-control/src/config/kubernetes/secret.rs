//! `Secret`: certificates and keys that Gateways and DestinationRules name.
//!
//! Source: `core/v1`; the keys are those that istiod knows (`pilot/pkg/credentials/kube/secrets.go`). Secrets of other
//! contents are read as well, and used by nothing.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::object;
use crate::config::Metadata;
use crate::config::kind::Resource;
use crate::diagnostic::Position;
use crate::document::{Context, Node, Object, Value};

/// A Secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Secret {
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// What is in it. Values are never printed.
    pub data: SecretData,
}

/// Contents of a Secret by their keys. Its `Debug` output has the keys only.
#[derive(Clone, Default)]
pub struct SecretData(BTreeMap<String, Vec<u8>>);

impl SecretData {
    /// The value of the first of the keys that has one.
    pub fn first(&self, keys: &[&str]) -> Option<&[u8]> {
        keys.iter().find_map(|key| self.0.get(*key)).map(Vec::as_slice).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, "[redacted]"))).finish()
    }
}

impl Secret {
    /// The certificate chain, PEM: `tls.crt`, or `cert` in a generic Secret.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.data.first(&["tls.crt", "cert"])
    }

    /// The private key, PEM: `tls.key`, or `key` in a generic Secret.
    pub fn private_key(&self) -> Option<&[u8]> {
        self.data.first(&["tls.key", "key"])
    }

    /// The roots, PEM: `ca.crt`, or `cacert` in a generic Secret.
    pub fn roots(&self) -> Option<&[u8]> {
        self.data.first(&["ca.crt", "cacert"])
    }

    /// The revoked certificates, PEM: `ca.crl`, or `crl` in a generic Secret.
    pub fn crl(&self) -> Option<&[u8]> {
        self.data.first(&["ca.crl", "crl"])
    }
}

impl Resource for Secret {
    fn read(metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<Self> {
        let whole = Object::new(node, cx)?;
        let mut data = BTreeMap::new();
        for (field, is_encoded) in [("data", true), ("stringData", false)] {
            let cx = cx.field(field);
            let Some(entries) = object(&whole, field, cx).and_then(|_| whole.node(field)) else { continue };
            let Value::Mapping(entries) = &entries.value else { continue };
            for (key, value) in entries {
                let cx = cx.field(&key.name);
                let Value::String(text) = &value.value else { continue };
                let bytes = if is_encoded { decode_base64(text) } else { Some(text.clone().into_bytes()) };
                match bytes {
                    Some(bytes) => drop(data.insert(key.name.clone(), bytes)),
                    // Without a line: a message shows the text of its line, which may be most of a key.
                    None => {
                        let position = Position::whole_file(cx.position(key.mark).source);
                        cx.refuse(position, "the value is not base64", "expected base64, or stringData");
                    }
                }
            }
        }
        Some(Self { metadata, data: SecretData(data) })
    }
}

/// Standard base64 with padding, as Kubernetes writes it; line breaks are skipped.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_as_kubernetes_writes_it() {
        for (text, expected) in [
            ("", Some("")),
            ("YQ==", Some("a")),
            ("YWI=", Some("ab")),
            ("YWJj", Some("abc")),
            ("YWJj\nYQ==\n", Some("abca")),
            ("YQ", None),
            ("YQ=a", None),
            ("Y===", None),
            ("YQ==YQ==", None),
            ("YW-j", None),
        ] {
            assert_eq!(decode_base64(text), expected.map(|text| text.as_bytes().to_vec()), "{text:?}");
        }
    }

    #[test]
    fn debug_output_has_no_values() {
        let data = SecretData(BTreeMap::from([("tls.key".to_owned(), b"hidden".to_vec())]));
        assert_eq!(format!("{data:?}"), "{\"tls.key\": \"[redacted]\"}");
    }
}
