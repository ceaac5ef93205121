//! Removes secrets from what is shown, as Envoy does with the fields that its API marks as sensitive.

use serde_json::Value;

/// Fields with a secret: a text, a `DataSource`, or several of these.
const SENSITIVE: [&str; 5] = ["generic_secret", "password", "pkcs12", "private_key", "session_ticket_keys"];
const REDACTED: &str = "[redacted]";
/// The same as base64, for fields of bytes.
const REDACTED_BYTES: &str = "W3JlZGFjdGVkXQ==";

/// Replaces the contents of sensitive fields. The names of files stay.
pub(crate) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if SENSITIVE.contains(&name.as_str()) { hide(value) } else { redact(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) => REDACTED.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("filename" | "environment_variable" | "watched_directory" | "name" | "sds_config", _) => {}
                    ("inline_bytes", Value::String(text)) => REDACTED_BYTES.clone_into(text),
                    (_, value) => hide(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_hidden_wherever_they_are_and_files_are_not() {
        let mut value = json!({"configs": [{"tls_certificates": [
            {"certificate_chain": {"inline_string": "public"}, "private_key": {"inline_string": "hidden"}},
            {"private_key": {"inline_bytes": "aGlkZGVu"}, "password": {"filename": "/p"}},
        ], "session_ticket_keys": {"keys": [{"inline_string": "hidden"}, {"filename": "/k"}]}, "password": "hidden"}]});
        redact(&mut value);
        let expected = json!({"configs": [{"tls_certificates": [
            {"certificate_chain": {"inline_string": "public"}, "private_key": {"inline_string": "[redacted]"}},
            {"private_key": {"inline_bytes": "W3JlZGFjdGVkXQ=="}, "password": {"filename": "/p"}},
        ], "session_ticket_keys": {"keys": [{"inline_string": "[redacted]"}, {"filename": "/k"}]}, "password": "[redacted]"}]});
        assert_eq!(value, expected);
    }
}
