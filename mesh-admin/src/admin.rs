//! [`Admin`].

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response, StatusCode};
use mesh_tower::Body;
use tower_service::Service;

use crate::{Answer, Command, Process, Query, command};

/// The admin endpoint. Clones share their state.
pub struct Admin<S>(Arc<Shared<S>>);

struct Shared<S> {
    process: Arc<S>,
    commands: Vec<Command<S>>,
}

impl<S: Process> Admin<S> {
    /// Creates the endpoint of `process` with the common commands and `additional` ones.
    #[must_use]
    pub fn new(process: Arc<S>, additional: impl IntoIterator<Item = Command<S>>) -> Self {
        let mut commands = command::common();
        commands.extend(additional);
        commands.sort_by_key(|command| command.path);
        Self(Arc::new(Shared { process, commands }))
    }

    /// All commands except `/` and `/help`, sorted by path.
    #[must_use]
    pub fn commands(&self) -> &[Command<S>] {
        &self.0.commands
    }

    /// Answers a request for `path`. `query` is the part of the request target after `?`.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str, query: &str) -> Answer {
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::POST);
        match path {
            "/" if is_read => return self.home(),
            "/help" if is_read => return Answer::text(self.help()),
            _ => {}
        }
        let Some(command) = self.0.commands.iter().find(|command| command.path == path) else {
            return Answer::text(format!("invalid path. {}", self.help())).with_status(StatusCode::NOT_FOUND);
        };
        if command.effect.allows(method) {
            return (command.run)(&self.0.process, &Query(query));
        }
        let needed = if command.needs_post() { "POST" } else { "GET" };
        Answer::text(format!("Method {method} not allowed, {needed} required."))
            .with_status(StatusCode::METHOD_NOT_ALLOWED)
    }

    fn help(&self) -> String {
        let mut text =
            "admin commands are:\n  /: Admin home page\n  /help: print out list of admin commands\n".to_owned();
        for command in &self.0.commands {
            let post = if command.needs_post() { " (POST)" } else { "" };
            text.push_str(&format!("  {}{post}: {}\n", command.path, command.help));
        }
        text
    }

    fn home(&self) -> Answer {
        let mut page = "<!DOCTYPE html>\n<title>mesh admin</title>\n<h1>mesh admin</h1>\n<ul>\n".to_owned();
        for command in &self.0.commands {
            let (path, help) = (command.path, command.help);
            let item = if command.needs_post() {
                format!("<form action=\"{path}\" method=\"post\"><button>{path}</button></form>")
            } else {
                format!("<a href=\"{path}\">{path}</a>")
            };
            page.push_str(&format!("<li>{item} {help}\n"));
        }
        page.push_str("</ul>\n");
        Answer::html(page)
    }
}

impl<S: Process, B> Service<Request<B>> for Admin<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let target = request.uri();
        ready(Ok(self.answer(request.method(), target.path(), target.query().unwrap_or("")).into_response()))
    }
}

impl<S> Clone for Admin<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Admin<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("commands", &self.0.commands).finish_non_exhaustive()
    }
}
