//! Helpers of all decoders: positions in a message, values that occur in many messages, headers.

pub(crate) mod field;
pub(crate) mod header;
pub(crate) mod value;
