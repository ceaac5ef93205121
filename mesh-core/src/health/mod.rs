//! Which endpoints can be trusted with traffic.
//!
//! * [`outlier`]: passive health checking: what requests tell about the endpoint they went to.

pub mod outlier;
