//! What a proxy does to a request besides routing it: header changes, sanitizing, path normalization.

pub mod forwarded;
pub mod header_mutation;
pub mod hop_by_hop;
pub mod path_normalize;
pub mod request_id;
pub mod survey;
