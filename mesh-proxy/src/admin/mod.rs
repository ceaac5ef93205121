//! The admin endpoint: Envoy's paths with Envoy's answers, so that its users and tools find their way.
//!
//! Answers are made from what is live at the moment of the request; nothing is prepared or cached. The endpoint runs on
//! the main thread and never delays a worker. It has no authentication, as in Envoy: bind it to loopback.

mod clusters;
mod commands;
mod config_dump;
mod listeners;
mod server_info;
mod stats;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::state::State;
pub(crate) use config_dump::ConfigDump;
pub(crate) use stats::ProcessStats;

/// Serves the admin endpoint until the process ends.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve_connection(stream, peer, Arc::clone(&state)));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint cannot accept connections");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, state: Arc<State>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&state, request.method(), request.uri().path(), request.uri().query().unwrap_or(""));
        std::future::ready(Ok::<_, Infallible>(answer.into_response()))
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, %peer, "admin connection ended");
    }
}

/// One answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";

impl Answer {
    fn text(body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, content_type: TEXT, body: body.into() }
    }

    fn json(value: &serde_json::Value) -> Self {
        Self { status: StatusCode::OK, content_type: JSON, body: format!("{value:#}\n") }
    }

    fn ok() -> Self {
        Self::text("OK\n")
    }

    fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
        response
    }
}

/// Whether a command changes something and therefore needs POST.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Changes,
}

struct Command {
    path: &'static str,
    effect: Effect,
    help: &'static str,
    run: fn(&State, &Query<'_>) -> Answer,
}

const COMMANDS: &[Command] = &[
    Command::reads("/", "Admin home page", |_, _| home()),
    Command::reads("/certs", "print certs on machine", |_, _| Answer::json(&serde_json::json!({ "certificates": [] }))),
    Command::reads("/clusters", "upstream cluster status", clusters::clusters),
    Command::reads("/config_dump", "dump current configs", config_dump::config_dump),
    Command::changes("/drain_listeners", "drain listeners", commands::drain_listeners),
    Command::changes("/healthcheck/fail", "cause the server to fail health checks", commands::healthcheck_fail),
    Command::changes("/healthcheck/ok", "cause the server to pass health checks", commands::healthcheck_ok),
    Command::reads("/help", "print out list of admin commands", |_, _| Answer::text(help())),
    Command::reads("/listeners", "print listener info", listeners::listeners),
    Command::changes("/logging", "query/change logging levels", commands::logging),
    Command::reads("/memory", "print current allocation/heap usage", |_, _| server_info::memory()),
    Command::changes("/quitquitquit", "exit the server", commands::quit),
    Command::reads("/ready", "print server state, return 200 if LIVE, otherwise return 503", server_info::ready),
    Command::changes("/reset_counters", "reset all counters to zero", stats::reset_counters),
    Command::reads("/runtime", "print runtime values", |_, _| {
        Answer::json(&serde_json::json!({ "layers": [], "entries": {} }))
    }),
    Command::reads("/server_info", "print server version/status information", server_info::server_info),
    Command::reads("/stats", "print server stats", stats::stats),
    Command::reads("/stats/prometheus", "print server stats in prometheus format", stats::prometheus),
];

impl Command {
    const fn reads(path: &'static str, help: &'static str, run: fn(&State, &Query<'_>) -> Answer) -> Self {
        Self { path, effect: Effect::None, help, run }
    }

    const fn changes(path: &'static str, help: &'static str, run: fn(&State, &Query<'_>) -> Answer) -> Self {
        Self { path, effect: Effect::Changes, help, run }
    }
}

fn answer(state: &State, method: &Method, path: &str, query: &str) -> Answer {
    let Some(command) = COMMANDS.iter().find(|command| command.path == path) else {
        return Answer::text(format!("invalid path. {}", help())).with_status(StatusCode::NOT_FOUND);
    };
    let is_allowed = match command.effect {
        Effect::None => matches!(*method, Method::GET | Method::HEAD | Method::POST),
        Effect::Changes => *method == Method::POST,
    };
    if is_allowed {
        (command.run)(state, &Query(query))
    } else {
        let needed = if command.effect == Effect::Changes { "POST" } else { "GET" };
        Answer::text(format!("Method {method} not allowed, {needed} required."))
            .with_status(StatusCode::METHOD_NOT_ALLOWED)
    }
}

fn help() -> String {
    let mut text = "admin commands are:\n".to_owned();
    for Command { path, effect, help, .. } in COMMANDS {
        let post = if *effect == Effect::Changes { " (POST)" } else { "" };
        text.push_str(&format!("  {path}{post}: {help}\n"));
    }
    text
}

fn home() -> Answer {
    let mut page = "<!DOCTYPE html>\n<title>mesh-proxy admin</title>\n<h1>mesh-proxy admin</h1>\n<ul>\n".to_owned();
    for Command { path, effect, help, .. } in COMMANDS {
        let item = match effect {
            Effect::None => format!("<a href=\"{path}\">{path}</a>"),
            Effect::Changes => format!("<form action=\"{path}\" method=\"post\"><button>{path}</button></form>"),
        };
        page.push_str(&format!("<li>{item} {help}\n"));
    }
    page.push_str("</ul>\n");
    Answer { status: StatusCode::OK, content_type: "text/html; charset=UTF-8", body: page }
}

/// The query of a request: `a=1&b`.
struct Query<'a>(&'a str);

impl Query<'_> {
    /// The value of a parameter, percent-decoded; empty if it has none.
    fn get(&self, name: &str) -> Option<String> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
        })
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn is(&self, name: &str, expected: &str) -> bool {
        self.get(name).is_some_and(|value| value == expected)
    }
}

#[cfg(test)]
mod tests;
