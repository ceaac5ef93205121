//! The spelling of header names (Envoy `Http1ProtocolOptions.header_key_format`).

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;

use crate::model::HeaderKeyFormat;

/// The names of the headers of a received message, as they were spelled. It is in the extensions of a message if the receiving
/// side has [`HeaderKeyFormat::PreserveCase`].
#[derive(Clone, Debug, Default)]
pub struct ReceivedNames(Arc<Vec<(HeaderName, Bytes)>>);

impl ReceivedNames {
    /// Adds a name that was not received before, unless it is in lower case.
    pub(super) fn add(&mut self, name: &HeaderName, received: Bytes) {
        if name.as_str().as_bytes() != received {
            Arc::make_mut(&mut self.0).push((name.clone(), received));
        }
    }

    fn find(&self, name: &HeaderName) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, received)| received)
    }
}

/// Appends `name` to `out`.
pub(super) fn write_name(
    name: &HeaderName,
    format: HeaderKeyFormat,
    received: Option<&ReceivedNames>,
    out: &mut Vec<u8>,
) {
    let lower = name.as_str().as_bytes();
    match format {
        HeaderKeyFormat::LowerCase => out.extend_from_slice(lower),
        HeaderKeyFormat::ProperCaseWords => {
            let mut begins_word = true;
            out.extend(lower.iter().map(|byte| {
                let spelled = if begins_word { byte.to_ascii_uppercase() } else { *byte };
                begins_word = !byte.is_ascii_alphanumeric();
                spelled
            }));
        }
        HeaderKeyFormat::PreserveCase => {
            let spelled = received.and_then(|received| received.find(name));
            out.extend_from_slice(spelled.map_or(lower, |spelled| spelled));
        }
    }
}
