//! The router, which must be the last filter of a chain.

use super::{Side, http_filter};
use crate::translate::proto::{any, http, router};
use crate::translate::view::View;

pub(super) const NAME: &str = "envoy.filters.http.router";

pub(super) fn add_http(_: &View<'_>, _: Side, filters: &mut Vec<http::HttpFilter>) {
    filters.push(http_filter(NAME, any(&router::Router::default())));
}
