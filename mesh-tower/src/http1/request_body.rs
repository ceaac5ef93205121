//! The body of a request that a connection is receiving.
//!
//! The connection reads the next part of the body when its reader asks for it, so a reader that is slow slows the client down.
//! Both usually run in the task of the connection. If the reader runs in another task, each side wakes the other.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use mesh_core::http1::{self, BodyLength, BodyPart};
use parking_lot::Mutex;

/// Why a request body ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestBodyError {
    /// The client has violated the protocol.
    #[error("the request body is malformed")]
    Malformed(#[source] http1::Error),
    /// The client has closed the connection.
    #[error("the client has disconnected")]
    Disconnected,
}

/// The reader's end.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// Parts that were received with the head.
    received: VecDeque<BodyPart>,
    /// Where further parts come from; `None` = there are none.
    slot: Option<Arc<Slot>>,
    remaining: BodyLength,
}

/// The connection's end.
#[derive(Debug)]
pub(crate) struct RequestBodySender(Arc<Slot>);

/// Holds at most one part.
type Slot = Mutex<Shared>;

#[derive(Debug)]
struct Shared {
    state: State,
    /// The connection, which waits until a part is wanted.
    connection: Option<Waker>,
    /// No part follows the one that is ready.
    is_cut_off: bool,
}

#[derive(Debug)]
enum State {
    /// The reader does not wait.
    Idle,
    /// The reader waits for the next part.
    Wanted(Waker),
    Ready(Result<BodyPart, RequestBodyError>),
    Ended,
}

const CUT_OFF: State = State::Ready(Err(RequestBodyError::Disconnected));

impl RequestBody {
    /// A body of the given length, of which `received` came with the head. No sender is needed if that is all.
    pub(crate) fn new(length: BodyLength, received: VecDeque<BodyPart>) -> (Option<RequestBodySender>, Self) {
        let is_complete = received.back() == Some(&BodyPart::End);
        let slot = (!is_complete)
            .then(|| Arc::new(Mutex::new(Shared { state: State::Idle, connection: None, is_cut_off: false })));
        (slot.clone().map(RequestBodySender), Self { received, slot, remaining: length })
    }
}

impl RequestBodySender {
    /// Whether the reader waits for a part. If not, the task is woken when another task begins to wait for one.
    pub(crate) fn is_wanted(&self, cx: &Context<'_>) -> bool {
        let mut shared = self.0.lock();
        if let State::Wanted(_) = shared.state {
            return true;
        }
        match &mut shared.connection {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        false
    }

    /// Passes a part on. To be called when one is wanted, or for an error at any time.
    pub(crate) fn send(&self, part: Result<BodyPart, RequestBodyError>, cx: &Context<'_>) {
        let before = mem::replace(&mut self.0.lock().state, State::Ready(part));
        if let State::Wanted(waker) = before
            && !waker.will_wake(cx.waker())
        {
            waker.wake();
        }
    }
}

/// A connection that is dropped has failed.
impl Drop for RequestBodySender {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.is_cut_off = true;
        let before = match &shared.state {
            State::Idle | State::Wanted(_) => mem::replace(&mut shared.state, CUT_OFF),
            State::Ready(_) | State::Ended => return,
        };
        drop(shared);
        if let State::Wanted(waker) = before {
            waker.wake();
        }
    }
}

fn poll_part(slot: &Slot, cx: &Context<'_>) -> Poll<Result<BodyPart, RequestBodyError>> {
    let mut shared = slot.lock();
    match mem::replace(&mut shared.state, State::Ended) {
        State::Ready(part) => {
            // After trailers, only the end follows.
            if let Ok(BodyPart::Data(_)) = &part {
                shared.state = if shared.is_cut_off { CUT_OFF } else { State::Idle };
            }
            Poll::Ready(part)
        }
        State::Ended => Poll::Ready(Ok(BodyPart::End)),
        State::Idle | State::Wanted(_) => {
            shared.state = State::Wanted(cx.waker().clone());
            // The connection itself looks for what is wanted after it has polled the reader.
            let connection = shared.connection.take().filter(|connection| !connection.will_wake(cx.waker()));
            drop(shared);
            if let Some(connection) = connection {
                connection.wake();
            }
            Poll::Pending
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        let part = match (this.received.pop_front(), &this.slot) {
            (Some(part), _) => Ok(part),
            (None, Some(slot)) => ready!(poll_part(slot, cx)),
            (None, None) => Ok(BodyPart::End),
        };
        Poll::Ready(match part {
            Ok(BodyPart::Data(data)) => {
                if let BodyLength::Exact(remaining) = &mut this.remaining {
                    *remaining = remaining.saturating_sub(data.len() as u64);
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(BodyPart::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(BodyPart::End) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.remaining, BodyLength::None | BodyLength::Exact(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.remaining {
            BodyLength::None => SizeHint::with_exact(0),
            BodyLength::Exact(remaining) => SizeHint::with_exact(remaining),
            BodyLength::Chunked | BodyLength::UntilClose => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use http::{HeaderMap, HeaderValue, header::ETAG};

    use super::*;

    /// A body of which nothing came with the head.
    fn streamed(length: BodyLength) -> (RequestBodySender, RequestBody) {
        let (sender, body) = RequestBody::new(length, VecDeque::new());
        (sender.unwrap(), body)
    }

    #[test]
    fn a_body_that_came_with_its_head_needs_no_sender() {
        let received = [BodyPart::Data(Bytes::from("a")), BodyPart::Data(Bytes::from("b")), BodyPart::End];
        let (sender, mut body) = RequestBody::new(BodyLength::Chunked, received.into());
        assert!(sender.is_none());
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = || match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.unwrap().into_data().unwrap()),
            Poll::Pending => panic!("all of it is here"),
        };
        assert_eq!([next(), next(), next()], [Some("a".into()), Some("b".into()), None]);
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    type Frames = Poll<Option<Result<Frame<Bytes>, RequestBodyError>>>;

    fn read(body: &mut RequestBody, task: &Arc<Task>) -> Frames {
        Pin::new(body).poll_frame(&mut Context::from_waker(&Arc::clone(task).into()))
    }

    fn send(sender: &RequestBodySender, part: Result<BodyPart, RequestBodyError>, task: &Arc<Task>) {
        sender.send(part, &Context::from_waker(&Arc::clone(task).into()));
    }

    fn is_wanted(sender: &RequestBodySender, task: &Arc<Task>) -> bool {
        sender.is_wanted(&Context::from_waker(&Arc::clone(task).into()))
    }

    fn data(text: &'static str) -> Result<BodyPart, RequestBodyError> {
        Ok(BodyPart::Data(Bytes::from_static(text.as_bytes())))
    }

    /// The data of a frame that must be ready.
    fn text(frame: Frames) -> Bytes {
        let Poll::Ready(Some(Ok(frame))) = frame else { panic!("{frame:?}") };
        frame.into_data().unwrap()
    }

    #[test]
    fn parts_arrive_in_order_and_trailers_precede_the_end() {
        let (sender, mut body) = streamed(BodyLength::Chunked);
        let task = Arc::default();
        for part in ["one", "two"] {
            assert!(!is_wanted(&sender, &task));
            assert!(read(&mut body, &task).is_pending());
            assert!(is_wanted(&sender, &task));
            send(&sender, data(part), &task);
            assert!(!is_wanted(&sender, &task), "a part is there");
            assert_eq!(text(read(&mut body, &task)), part);
        }
        let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("t"))]);
        assert!(read(&mut body, &task).is_pending());
        send(&sender, Ok(BodyPart::Trailers(trailers.clone())), &task);
        drop(sender);
        let Poll::Ready(Some(Ok(frame))) = read(&mut body, &task) else { panic!("no trailers") };
        assert_eq!(frame.into_trailers().unwrap(), trailers);
        assert!(matches!(read(&mut body, &task), Poll::Ready(None)));
        assert_eq!(task.woken(), 0, "the task polls both sides");
    }

    #[test]
    fn sides_in_different_tasks_wake_each_other() {
        let (sender, mut body) = streamed(BodyLength::Chunked);
        let (connection, reader) = (Arc::<Task>::default(), Arc::<Task>::default());
        for round in 1..=3 {
            assert!(!is_wanted(&sender, &connection));
            assert!(read(&mut body, &reader).is_pending());
            assert_eq!((connection.woken(), reader.woken()), (round, round - 1));
            assert!(is_wanted(&sender, &connection));
            send(&sender, data("x"), &connection);
            assert_eq!((connection.woken(), reader.woken()), (round, round));
            // What the connection does before the part is read.
            assert!(!is_wanted(&sender, &connection));
            assert_eq!(text(read(&mut body, &reader)), "x");
        }
        assert!(read(&mut body, &reader).is_pending());
        drop(sender);
        assert_eq!(reader.woken(), 4);
        assert!(matches!(read(&mut body, &reader), Poll::Ready(Some(Err(RequestBodyError::Disconnected)))));
        assert!(matches!(read(&mut body, &reader), Poll::Ready(None)));
    }

    #[test]
    fn a_body_that_is_cut_off_fails_after_the_part_that_was_received() {
        let task = Arc::default();
        let (sender, mut body) = streamed(BodyLength::Exact(5));
        drop(sender);
        assert!(matches!(read(&mut body, &task), Poll::Ready(Some(Err(RequestBodyError::Disconnected)))));
        let (sender, mut body) = streamed(BodyLength::Exact(5));
        assert!(read(&mut body, &task).is_pending());
        send(&sender, data("half"), &task);
        drop(sender);
        assert_eq!(text(read(&mut body, &task)), "half");
        assert!(matches!(read(&mut body, &task), Poll::Ready(Some(Err(RequestBodyError::Disconnected)))));
    }

    #[test]
    fn a_body_of_known_length_ends_with_its_last_byte() {
        let (sender, mut body) = streamed(BodyLength::Exact(5));
        let task = Arc::default();
        for (part, rest) in [("123", 2), ("45", 0)] {
            assert!(!body.is_end_stream() && read(&mut body, &task).is_pending());
            send(&sender, data(part), &task);
            assert_eq!(text(read(&mut body, &task)), part);
            assert_eq!(body.size_hint().exact(), Some(rest));
        }
        assert!(body.is_end_stream());
        assert!(matches!(read(&mut body, &task), Poll::Ready(None)));
        assert!(!is_wanted(&sender, &task), "there is no other part");
    }

    #[test]
    fn an_error_replaces_the_end() {
        let (sender, mut body) = streamed(BodyLength::Chunked);
        let task = Arc::default();
        assert!(read(&mut body, &task).is_pending());
        let malformed = RequestBodyError::Malformed(http1::Error::Incomplete);
        send(&sender, Err(malformed), &task);
        drop(sender);
        let Poll::Ready(Some(Err(error))) = read(&mut body, &task) else { panic!("no error") };
        assert_eq!(error, malformed);
        assert!(matches!(read(&mut body, &task), Poll::Ready(None)));
    }
}
