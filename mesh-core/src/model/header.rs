//! Configured changes of request and response headers.

use http::HeaderName;

use super::format::Format;

/// What to do when the header is there already. Envoy `core.v3.HeaderValueOption.HeaderAppendAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// Add another line, or the first.
    #[default]
    AppendIfExistsOrAdd,
    /// Add only if the header is absent.
    AddIfAbsent,
    /// Replace every line, or add.
    OverwriteIfExistsOrAdd,
    /// Replace every line; do nothing if absent.
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

/// Headers to write and to remove, in configured order. Removal comes first, as in Envoy, so that a header may be
/// removed and written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderMutations {
    /// Headers written.
    pub add: Vec<HeaderMutation>,
    /// Headers removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderMutations {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}
