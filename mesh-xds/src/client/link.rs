//! The connection of a client to a control plane.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;

use tokio::sync::mpsc;

use super::request::Request;
use super::response::Response;
use super::transport::{Disconnected, Stream};

/// Requests that may wait for a control plane that does not read; then its responses wait, too.
const MAX_UNSENT: usize = 64;

/// An attempt to connect.
pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<Stream, Disconnected>> + Send>>;

/// The connection to the control plane, and the requests that have not been sent.
#[derive(Default)]
pub(super) struct Link {
    state: State,
    unsent: VecDeque<Request>,
}

#[derive(Default)]
enum State {
    #[default]
    Down,
    Connecting(Connecting),
    Up(Stream),
}

/// An event of the connection.
pub(super) enum LinkEvent {
    Connected,
    Disconnected(Disconnected),
    Response(Response),
    Sent,
}

impl Link {
    /// Begins to connect.
    pub(super) fn connect(&mut self, attempt: Connecting) {
        self.state = State::Connecting(attempt);
    }

    /// Ends the connection, or the attempt to make one.
    pub(super) fn end(&mut self) {
        self.state = State::Down;
        self.unsent.clear();
    }

    /// Sends a request when the control plane reads.
    pub(super) fn send(&mut self, request: Request) {
        self.unsent.push_back(request);
    }

    /// The next event of the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(super) async fn event(&mut self) -> LinkEvent {
        let unsent = &mut self.unsent;
        let event = match &mut self.state {
            State::Down => pending().await,
            State::Connecting(attempt) => match attempt.await {
                Ok(stream) => {
                    self.state = State::Up(stream);
                    return LinkEvent::Connected;
                }
                Err(reason) => LinkEvent::Disconnected(reason),
            },
            State::Up(Stream { requests, responses }) => tokio::select! {
                event = send(requests, unsent), if !unsent.is_empty() => event,
                response = responses.recv(), if unsent.len() < MAX_UNSENT => match response {
                    Some(Ok(response)) => LinkEvent::Response(response),
                    Some(Err(reason)) => LinkEvent::Disconnected(reason),
                    None => LinkEvent::Disconnected(closed()),
                },
            },
        };
        if let LinkEvent::Disconnected(_) = event {
            self.end();
        }
        event
    }
}

/// Sends the first of the waiting requests.
async fn send(requests: &mpsc::Sender<Request>, unsent: &mut VecDeque<Request>) -> LinkEvent {
    match requests.reserve().await {
        Ok(permit) => {
            if let Some(request) = unsent.pop_front() {
                permit.send(request);
            }
            LinkEvent::Sent
        }
        Err(_) => LinkEvent::Disconnected(closed()),
    }
}

fn closed() -> Disconnected {
    Disconnected { reason: "it closed the stream".to_owned() }
}
