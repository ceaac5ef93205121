//! Helpers of all decoders: positions in a message, values that occur in many messages, headers, bytes of a source, conditions
//! on requests.

pub(crate) mod data_source;
pub(crate) mod field;
pub(crate) mod header;
pub(crate) mod metadata_matcher;
pub(crate) mod route_match;
pub(crate) mod sources;
pub(crate) mod struct_value;
pub(crate) mod value;
