//! Commands that control the proxy.

use http::StatusCode;
use mesh_admin::{Answer, Command, Query};

use crate::state::{Request, State};

/// The commands of this process besides the common ones.
pub(super) fn all() -> [Command<State>; 5] {
    [
        Command::changes("/drain_listeners", "drain listeners", drain_listeners),
        Command::changes("/healthcheck/fail", "cause the server to fail health checks", healthcheck_fail),
        Command::changes("/healthcheck/ok", "cause the server to pass health checks", healthcheck_ok),
        Command::changes("/logging", "query/change logging levels", logging),
        Command::changes("/quitquitquit", "exit the server", quit),
    ]
}

fn quit(state: &State, _: &Query<'_>) -> Answer {
    state.request(Request::Quit);
    Answer::ok()
}

fn drain_listeners(state: &State, query: &Query<'_>) -> Answer {
    state.request(if query.has("inboundonly") { Request::DrainInboundListeners } else { Request::DrainListeners });
    Answer::ok()
}

fn healthcheck_fail(state: &State, _: &Query<'_>) -> Answer {
    state.lifecycle.fail_health_check(true);
    Answer::ok()
}

fn healthcheck_ok(state: &State, _: &Query<'_>) -> Answer {
    state.lifecycle.fail_health_check(false);
    Answer::ok()
}

fn logging(state: &State, query: &Query<'_>) -> Answer {
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
