//! Processing of requests besides routing: header changes, sanitizing, path normalization.

pub mod client_certificate;
pub mod forwarded;
pub mod header_mutation;
pub mod hop_by_hop;
pub mod path_normalize;
pub mod request_id;
pub mod survey;
pub mod user_agent;
