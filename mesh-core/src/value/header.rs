//! Configured changes of request and response headers.

use http::HeaderName;

use super::format::Format;

/// What to do if the header exists. Envoy `core.v3.HeaderValueOption.HeaderAppendAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// Add a line.
    #[default]
    AppendIfExistsOrAdd,
    /// Add a line if the header is absent.
    AddIfAbsent,
    /// Replace all lines, or add one.
    OverwriteIfExistsOrAdd,
    /// Replace all lines; do nothing if the header is absent.
    OverwriteIfExists,
}

/// One header to write. Envoy `core.v3.HeaderValueOption`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMutation {
    /// The header's name; `:authority`, `:path` and `:method` are not header fields and cannot be named here.
    pub name: HeaderName,
    /// The value, with `%COMMAND%` substitutions.
    pub value: Format,
    /// Default [`AppendAction::AppendIfExistsOrAdd`].
    pub append_action: AppendAction,
    /// Write the header even if its value is empty. Default false.
    pub keep_empty_value: bool,
}

/// Headers to add and to remove, in configured order. Removal comes first, as in Envoy, so a header can be removed and
/// added again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderMutations {
    /// Headers to add.
    pub add: Vec<HeaderMutation>,
    /// Headers to remove.
    pub remove: Vec<HeaderName>,
}

impl HeaderMutations {
    /// Whether there is nothing to add or remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}
