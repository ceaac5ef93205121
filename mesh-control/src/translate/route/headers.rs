//! Changes of headers.

use std::collections::BTreeMap;

use crate::config::{HeaderOperations, Headers};
use crate::translate::proto::core;
use core::header_value_option::HeaderAppendAction;

/// Changes in the form that routes and weighted clusters share.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) request_add: Vec<core::HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<core::HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    /// New `Host`, which in Envoy is no header.
    pub(super) authority: Option<String>,
}

impl Changes {
    pub(super) fn of(headers: &Headers) -> Self {
        let Headers { request, response } = headers;
        let mut authority = None;
        for (name, value) in request.set.iter().chain(&request.add) {
            if is_authority(name) {
                authority = Some(value.clone());
            }
        }
        Self {
            request_add: values(request),
            request_remove: request.remove.clone(),
            response_add: values(response),
            response_remove: response.remove.clone(),
            authority,
        }
    }
}

/// What is overwritten, then what is added.
fn values(operations: &HeaderOperations) -> Vec<core::HeaderValueOption> {
    let HeaderOperations { set, add, remove: _ } = operations;
    let options = |headers: &BTreeMap<String, String>, action: HeaderAppendAction| -> Vec<_> {
        let own = headers.iter().filter(|(name, _)| !is_authority(name));
        own.map(|(name, value)| option(name, value, action)).collect()
    };
    let mut all = options(set, HeaderAppendAction::OverwriteIfExistsOrAdd);
    all.extend(options(add, HeaderAppendAction::AppendIfExistsOrAdd));
    all
}

fn option(name: &str, value: &str, action: HeaderAppendAction) -> core::HeaderValueOption {
    core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..core::HeaderValue::default()
        }),
        append_action: action.into(),
        ..core::HeaderValueOption::default()
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}
