//! Health checking.
//!
//! * [`outlier`]: outlier detection, which is passive health checking by the outcome of requests.

pub(crate) mod connectivity;
pub mod outlier;
