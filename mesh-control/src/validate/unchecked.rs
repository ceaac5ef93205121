//! Kinds that refer to no other resource, and do not contradict one.

use super::Scope;
use crate::diagnostic::Diagnostic;

pub(super) fn check(_: Scope<'_>, _: &mut Vec<Diagnostic>) {}
