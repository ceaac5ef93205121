//! Commands that change something.

use http::StatusCode;

use super::{Answer, Query};
use crate::state::{Request, State};

pub(super) fn quit(state: &State, _: &Query<'_>) -> Answer {
    state.request(Request::Quit);
    Answer::ok()
}

pub(super) fn drain_listeners(state: &State, query: &Query<'_>) -> Answer {
    state.request(if query.has("inboundonly") { Request::DrainInboundListeners } else { Request::DrainListeners });
    Answer::ok()
}

pub(super) fn healthcheck_fail(state: &State, _: &Query<'_>) -> Answer {
    state.lifecycle.fail_health_check(true);
    Answer::ok()
}

pub(super) fn healthcheck_ok(state: &State, _: &Query<'_>) -> Answer {
    state.lifecycle.fail_health_check(false);
    Answer::ok()
}

pub(super) fn logging(state: &State, query: &Query<'_>) -> Answer {
    if let Some(level) = query.get("level") {
        if let Err(error) = state.log_level.set(&level) {
            return Answer::text(format!("error: {error}\n")).with_status(StatusCode::BAD_REQUEST);
        }
    } else if query.has("paths") {
        let reason = "error: loggers cannot be set one by one; use ?level=\n";
        return Answer::text(reason).with_status(StatusCode::BAD_REQUEST);
    }
    Answer::text(format!("active loggers:\n  mesh: {}\n", state.log_level))
}
