//! The user guide, by topic.

#[doc = include_str!("../docs/guide/start.md")]
#[cfg(feature = "istio")]
pub mod start {}

#[doc = include_str!("../docs/guide/kubernetes.md")]
#[cfg(feature = "istio")]
pub mod kubernetes {}

#[doc = include_str!("../docs/guide/mutual_tls.md")]
#[cfg(feature = "istio")]
pub mod mutual_tls {}

#[doc = include_str!("../docs/guide/adopting.md")]
pub mod adopting {}

#[doc = include_str!("../docs/guide/serving.md")]
pub mod serving {}

#[doc = include_str!("../docs/guide/authorization.md")]
pub mod authorization {}

#[doc = include_str!("../docs/guide/access_logs.md")]
pub mod access_logs {}

#[doc = include_str!("../docs/guide/external_authorization.md")]
pub mod external_authorization {}

#[doc = include_str!("../docs/guide/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/guide/from_code.md")]
pub mod from_code {}

#[doc = include_str!("../docs/guide/logging.md")]
pub mod logging {}

#[doc = include_str!("../docs/guide/operating.md")]
pub mod operating {}

#[doc = include_str!("../docs/guide/end_user_authentication.md")]
#[cfg(feature = "istio")]
pub mod end_user_authentication {}
