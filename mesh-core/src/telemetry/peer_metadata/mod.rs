//! Encoding of workload metadata for the other end of a request: the value of `x-envoy-peer-metadata`, base64 of a
//! protobuf `Struct` with the keys of Istio's node metadata.
//!
//! Entries are sorted by key, as in protobuf's deterministic serialization, so equal workloads have equal values and
//! readers can cache what a value means. Unknown entries are left out: a workload from files has no `OWNER`, `REGION` and
//! `AVAILABILITY_ZONE`.
//!
//! The message is encoded and decoded by hand. It has two types, arrives from untrusted peers on the request path, and
//! this crate has no protobuf library.

mod wire;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderName;
use thiserror::Error;

use self::wire::{Malformed, StructWriter, Value};
use crate::model::Workload;

/// `x-envoy-peer-metadata-id`: Istio's node ID of the sender. Sent with [`X_ENVOY_PEER_METADATA`].
pub const X_ENVOY_PEER_METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");
/// `x-envoy-peer-metadata`: the sender's workload, as [`encode`] writes it.
pub const X_ENVOY_PEER_METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");

/// Maximum length of a value that is decoded, in bytes. Istio's values have a few hundred bytes.
pub const MAX_LENGTH: usize = 8 * 1024;

const NAME: &str = "NAME";
const NAMESPACE: &str = "NAMESPACE";
const WORKLOAD_NAME: &str = "WORKLOAD_NAME";
const CLUSTER_ID: &str = "CLUSTER_ID";
const IDENTITY: &str = "IDENTITY";
const LABELS: &str = "LABELS";
const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
const APP: [&str; 2] = ["app.kubernetes.io/name", "app"];
const VERSION: [&str; 2] = ["app.kubernetes.io/version", "version"];

/// Padding is written, and optional when a value is read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A value that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerMetadataError {
    /// It is too long.
    #[error("peer metadata has {0} bytes, more than {MAX_LENGTH}")]
    TooLong(usize),
    /// It is not base64.
    #[error("peer metadata is not base64")]
    Base64,
    /// It does not encode a `Struct`.
    #[error("peer metadata is not a protobuf Struct")]
    Malformed,
}

impl From<Malformed> for PeerMetadataError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The value for `workload`.
#[must_use]
pub fn encode(workload: &Workload) -> String {
    let mut labels = StructWriter::default();
    // Sorted by key, here and below.
    labels.string(APP[1], &workload.app);
    labels.string(CANONICAL_NAME, &workload.canonical_service);
    labels.string(CANONICAL_REVISION, &workload.canonical_revision);
    labels.string(VERSION[1], &workload.version);
    let mut metadata = StructWriter::default();
    metadata.string(CLUSTER_ID, &workload.cluster);
    metadata.string(IDENTITY, &workload.principal);
    metadata.object(LABELS, &labels);
    metadata.string(NAME, &workload.name);
    metadata.string(NAMESPACE, &workload.namespace);
    metadata.string(WORKLOAD_NAME, &workload.name);
    BASE64.encode(metadata.into_bytes())
}

/// The workload that `value` describes. Unknown keys are ignored.
///
/// # Errors
/// If the value is too long or malformed.
pub fn decode(value: &[u8]) -> Result<Workload, PeerMetadataError> {
    if value.len() > MAX_LENGTH {
        return Err(PeerMetadataError::TooLong(value.len()));
    }
    let mut bytes = [0; MAX_LENGTH];
    let length = BASE64.decode_slice(value, &mut bytes).map_err(|_| PeerMetadataError::Base64)?;
    let mut workload = Workload::default();
    for entry in wire::entries(&bytes[..length]) {
        match entry? {
            (NAMESPACE, Value::String(text)) => workload.namespace = text.into(),
            (WORKLOAD_NAME, Value::String(text)) => workload.name = text.into(),
            (CLUSTER_ID, Value::String(text)) => workload.cluster = text.into(),
            (IDENTITY, Value::String(text)) => workload.principal = text.into(),
            (LABELS, Value::Object(labels)) => read_labels(labels, &mut workload)?,
            _ => {}
        }
    }
    Ok(workload)
}

fn read_labels(labels: &[u8], workload: &mut Workload) -> Result<(), Malformed> {
    // Of two labels with one meaning, the first one of the list takes precedence, independent of the order in the
    // message.
    let (mut app, mut version) = ([""; 2], [""; 2]);
    for entry in wire::entries(labels) {
        let (key, Value::String(text)) = entry? else { continue };
        let among = |keys: [&str; 2]| keys.into_iter().position(|known| known == key);
        if let Some(position) = among(APP) {
            app[position] = text;
        } else if let Some(position) = among(VERSION) {
            version[position] = text;
        } else if key == CANONICAL_NAME {
            workload.canonical_service = text.into();
        } else if key == CANONICAL_REVISION {
            workload.canonical_revision = text.into();
        }
    }
    let first = |texts: [&str; 2]| texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default().into();
    workload.app = first(app);
    workload.version = first(version);
    Ok(())
}

/// The part of a peer's metadata that is believed: everything except its identity, which only a certificate proves.
#[must_use]
pub fn without_identity(workload: Workload) -> Workload {
    Workload { principal: Workload::default().principal, ..workload }
}

#[cfg(test)]
mod tests;
