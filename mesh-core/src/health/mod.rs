//! Health checking.
//!
//! * [`outlier`]: outlier detection, which is passive health checking by the outcome of requests.

pub mod outlier;
