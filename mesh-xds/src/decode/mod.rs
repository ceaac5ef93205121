//! What all decoders use: the position in a message, values that occur in many messages, header rules.

pub(crate) mod field;
pub(crate) mod header;
pub(crate) mod value;
