//! Values that occur in many parts of the configuration: names, percentages, predicates, formats, changes of headers,
//! metadata.
//!
//! Public as a part of [`model`](crate::model). They are a module of their own because HTTP filters are configured with
//! them, and the model holds the configurations of HTTP filters.

pub mod format;
mod header;
mod matcher;
mod metadata;
mod metadata_matcher;
mod name;
mod percent;

pub use header::{AppendAction, HeaderMutation, HeaderMutations};
pub use matcher::{
    HeaderKey, HeaderMatch, HeaderMatcher, InvalidRegex, PathMatcher, QueryParameterMatch, QueryParameterMatcher,
    SafeRegex, StringMatcher, StringPattern,
};
pub(crate) use metadata::json_string;
pub use metadata::{Metadata, MetadataValue};
pub use metadata_matcher::{MetadataMatcher, ValueMatcher};
pub use name::{ClusterName, RouteConfigName};
pub use percent::{FractionalPercent, Percent, PercentOutOfRange};
