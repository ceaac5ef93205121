//! The driver of HTTP/1.1 connections, with endpoints that the test plays byte by byte.

use std::{num::NonZeroUsize, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use mesh_core::model::HeaderKeyFormat;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
};

use super::*;
use crate::{
    Body, BoxError, Connect, ConnectTo, Connected, Connecting, Io,
    call::Interim,
    testing::{self, HalfBody},
};

/// Passes the endpoint's end of each connection to the test.
#[derive(Debug)]
struct Endpoints(mpsc::UnboundedSender<DuplexStream>);

impl Connect for Endpoints {
    fn connect<'a>(&'a self, _: ConnectTo<'a>) -> Connecting<'a> {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.0.send(theirs).unwrap();
        Box::pin(async { Ok(Connected::plain_text(Io::boxed(ours))) })
    }
}

const PIPE: usize = 64 * 1024;

/// What takes longer than this does not happen.
const SOON: Duration = Duration::from_millis(500);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it does not happen")
}

struct Fixture {
    accepted: mpsc::UnboundedReceiver<DuplexStream>,
    target: OwnedTarget,
}

type Sending = JoinHandle<(Call, Result<(), TransportError>)>;

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut mesh_core::model::Cluster)) -> Self {
        let (sender, accepted) = mpsc::unbounded_channel();
        let cluster = testing::cluster("c", 1, configure);
        let endpoint = Arc::clone(&cluster.endpoints().endpoints()[0]);
        let worker = Worker::new(0, NonZeroUsize::MIN, Endpoints(sender));
        let target = OwnedTarget {
            runtime: Handle::current(),
            worker,
            cluster,
            endpoint,
            priority: RoutingPriority::Default,
            server_name: None,
        };
        Self { accepted, target }
    }

    /// Sends a request in another task, which waits for the response headers.
    fn send(&self, method: Method, body: Body) -> Sending {
        let target = self.target.clone();
        let request = Request::builder().method(method).uri("/").header("host", "a.test").header("x-a", "1");
        let mut call = Call::new(request.body(body).unwrap());
        call.interim = Some(Interim::default());
        tokio::spawn(async move {
            let connection = connect(&target).await.unwrap();
            let outcome = connection.send(&mut call).await;
            (call, outcome)
        })
    }

    async fn accept(&mut self) -> DuplexStream {
        soon(self.accepted.recv()).await.unwrap()
    }

    /// Sends a request, and returns it with its connection, which is a new one.
    async fn get(&mut self) -> (DuplexStream, Sending) {
        let sending = self.send(Method::GET, Body::empty());
        let mut endpoint = self.accept().await;
        read_until(&mut endpoint, "\r\n\r\n").await;
        (endpoint, sending)
    }

    /// The next request uses the connection of `endpoint`.
    async fn assert_reused(&mut self, endpoint: &mut DuplexStream) {
        let sending = self.send(Method::GET, Body::empty());
        read_until(endpoint, "\r\n\r\n").await;
        endpoint.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert_eq!(response(sending).await, (StatusCode::NO_CONTENT, Bytes::new()));
        assert!(self.accepted.try_recv().is_err());
    }

    /// The connection of `endpoint` is closed, so that the next request uses another. Returns what `endpoint` received before.
    async fn assert_closed(&mut self, mut endpoint: DuplexStream) -> String {
        let mut received = String::new();
        soon(endpoint.read_to_string(&mut received)).await.unwrap();
        assert_eq!(self.target.endpoint.stats().cx_active.get(), 0);
        drop(self.get().await);
        received
    }
}

async fn connect(target: &OwnedTarget) -> Result<Connection, TransportError> {
    let OwnedTarget { worker, cluster, endpoint, priority, .. } = target;
    let target = Target { cluster, endpoint, priority: *priority, server_name: None };
    Pool::new(worker.clone()).connection(&target, Protocol::Http1).await
}

async fn read_until(endpoint: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(soon(endpoint.read_u8()).await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

/// The response to a request, when its headers have been received.
async fn head(sending: Sending) -> Call {
    let (call, outcome) = soon(sending).await.unwrap();
    outcome.unwrap();
    call
}

async fn rest(mut call: Call) -> Bytes {
    let body = call.response.take().unwrap().into_body();
    soon(body.collect()).await.unwrap().to_bytes()
}

async fn response(sending: Sending) -> (StatusCode, Bytes) {
    let call = head(sending).await;
    (call.response.as_ref().unwrap().status(), rest(call).await)
}

async fn failure(sending: Sending) -> (Call, ResetReason) {
    let (call, outcome) = soon(sending).await.unwrap();
    (call, outcome.unwrap_err().reason())
}

type FrameSender = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// A body of unknown length, whose frames the test sends.
fn streamed() -> (FrameSender, Body) {
    struct Frames(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);
    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.poll_recv(cx)
        }
    }
    let (sender, receiver) = mpsc::channel(8);
    (sender, Body::new(Frames(receiver)))
}

async fn push(sender: &FrameSender, text: &'static str) {
    sender.send(Ok(Frame::data(Bytes::from(text)))).await.unwrap();
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn the_framing_of_a_request_depends_on_what_is_known_of_its_body() {
    let mut fixture = Fixture::new();
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let mut endpoint = None;
    for method in [Method::GET, Method::HEAD, Method::DELETE, Method::POST] {
        let empty = if method == Method::POST { "x-a: 1\r\ncontent-length: 0\r\n\r\n" } else { "x-a: 1\r\n\r\n" };
        let (sender, body) = streamed();
        push(&sender, "hello").await;
        drop(sender);
        let known = "content-length: 5\r\n\r\nhello";
        for (body, end) in [(body, chunked), (Body::from("hello"), known), (Body::empty(), empty)] {
            let sending = fixture.send(method.clone(), body);
            let endpoint = match &mut endpoint {
                Some(endpoint) => endpoint,
                none => none.insert(fixture.accept().await),
            };
            let received = read_until(endpoint, end).await;
            assert!(received.starts_with(&format!("{method} / HTTP/1.1\r\nhost: a.test\r\n")), "{received}");
            assert_eq!(received.matches("\r\n\r\n").count(), end.matches("\r\n\r\n").count(), "{received}");
            endpoint.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            assert_eq!(response(sending).await, (StatusCode::OK, Bytes::new()));
        }
    }
    assert!(fixture.accepted.try_recv().is_err(), "all over one connection");
}

#[tokio::test(start_paused = true)]
async fn header_names_have_the_spelling_of_the_options() {
    let proper = HeaderKeyFormat::ProperCaseWords;
    for (format, expected) in
        [(proper, "Host: a.test\r\nX-A: 1"), (HeaderKeyFormat::LowerCase, "host: a.test\r\nx-a: 1")]
    {
        let mut fixture = Fixture::with(|c| c.http_protocol_options.http1.header_key_format = format);
        let _sending = fixture.send(Method::GET, Body::empty());
        let received = read_until(&mut fixture.accept().await, "\r\n\r\n").await;
        assert!(received.contains(expected), "{received}");
    }
}

#[tokio::test(start_paused = true)]
async fn interim_responses_precede_the_response() {
    let mut fixture = Fixture::new();
    let (mut endpoint, sending) = fixture.get().await;
    endpoint.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Con").await.unwrap();
    tokio::time::sleep(SOON).await;
    assert!(!sending.is_finished());
    endpoint.write_all(format!("tinue\r\n\r\n{OK}").as_bytes()).await.unwrap();
    let call = head(sending).await;
    let interim = call.interim.clone().unwrap();
    let first = interim.take().unwrap();
    assert_eq!((first.status(), first.headers()["link"].to_str().unwrap()), (StatusCode::EARLY_HINTS, "</a>"));
    assert_eq!(interim.take().map(|second| second.status()), Some(StatusCode::CONTINUE));
    assert!(interim.take().is_none());
    assert_eq!(rest(call).await, "ok");
    fixture.assert_reused(&mut endpoint).await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_must_not_switch_protocols_unasked() {
    let mut fixture = Fixture::new();
    let (mut endpoint, sending) = fixture.get().await;
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    endpoint.write_all(switch).await.unwrap();
    assert_eq!(failure(sending).await.1, ResetReason::ProtocolError);
    fixture.assert_closed(endpoint).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_response_makes_the_connection_unusable() {
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
    ];
    for (first, body) in cases {
        let mut fixture = Fixture::new();
        let (mut endpoint, sending) = fixture.get().await;
        endpoint.write_all(first.repeat(2).as_bytes()).await.unwrap();
        assert_eq!(response(sending).await, (StatusCode::OK, Bytes::from(body)));
        fixture.assert_closed(endpoint).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_may_arrive_byte_by_byte() {
    let mut fixture = Fixture::new();
    let (mut endpoint, sending) = fixture.get().await;
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\none\r\n3\r\ntwo\r\n0\r\netag: t\r\n\r\n";
    let reading = tokio::spawn(response(sending));
    for byte in chunked.as_bytes() {
        assert!(!reading.is_finished());
        endpoint.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(soon(reading).await.unwrap(), (StatusCode::OK, Bytes::from("onetwo")));
    fixture.assert_reused(&mut endpoint).await;
}

#[tokio::test(start_paused = true)]
async fn a_response_without_length_lasts_until_the_end_of_the_connection() {
    let mut fixture = Fixture::new();
    let (mut endpoint, sending) = fixture.get().await;
    endpoint.write_all(b"HTTP/1.1 200 OK\r\n\r\none").await.unwrap();
    let reading = tokio::spawn(rest(head(sending).await));
    tokio::time::sleep(SOON / 10).await;
    endpoint.write_all(b"two").await.unwrap();
    tokio::time::sleep(SOON / 10).await;
    assert!(!reading.is_finished());
    endpoint.shutdown().await.unwrap();
    assert_eq!(soon(reading).await.unwrap(), "onetwo");
    fixture.assert_closed(endpoint).await;
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_a_failure_depends_on_what_was_received() {
    let cases = [
        ("", ResetReason::ConnectionTermination),
        ("HTTP/1.1 200 O", ResetReason::ProtocolError),
        ("SSH-2.0-x\r\n", ResetReason::ProtocolError),
        ("HTTP/1.1 100 Continue\r\n\r\n", ResetReason::ConnectionTermination),
    ];
    for (received, reason) in cases {
        let mut fixture = Fixture::new();
        let (mut endpoint, sending) = fixture.get().await;
        endpoint.write_all(received.as_bytes()).await.unwrap();
        drop(endpoint);
        let (call, failed) = failure(sending).await;
        assert_eq!(failed, reason, "{received}");
        assert!(call.is_sent());
    }
    for received in ["content-length: 3\r\n\r\nok", "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n"] {
        let mut fixture = Fixture::new();
        let (mut endpoint, sending) = fixture.get().await;
        endpoint.write_all(format!("HTTP/1.1 200 OK\r\n{received}").as_bytes()).await.unwrap();
        drop(endpoint);
        let mut body = head(sending).await.response.unwrap().into_body();
        assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "ok");
        let error = soon(body.frame()).await.unwrap().unwrap_err();
        let error = error.downcast_ref::<TransportError>().unwrap();
        assert_eq!(error.reason(), ResetReason::ProtocolError, "{received}");
        assert!(soon(body.frame()).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_may_respond_before_the_upload_has_ended() {
    let mut fixture = Fixture::new();
    let (sender, body) = streamed();
    push(&sender, "one").await;
    let sending = fixture.send(Method::POST, body);
    let mut endpoint = fixture.accept().await;
    read_until(&mut endpoint, "3\r\none\r\n").await;
    endpoint.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(response(sending).await, (StatusCode::OK, Bytes::from("ok")));
    assert_eq!(fixture.assert_closed(endpoint).await, "", "the upload does not seem complete");
    drop(sender);
}

#[tokio::test(start_paused = true)]
async fn the_upload_goes_on_while_the_response_is_read() {
    for fails in [false, true] {
        let mut fixture = Fixture::new();
        let (sender, body) = streamed();
        let sending = fixture.send(Method::POST, body);
        let mut endpoint = fixture.accept().await;
        read_until(&mut endpoint, "\r\n\r\n").await;
        endpoint.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await.unwrap();
        let reading = tokio::spawn(rest(head(sending).await));
        push(&sender, "one").await;
        read_until(&mut endpoint, "3\r\none\r\n").await;
        if fails {
            sender.send(Err("on purpose".into())).await.unwrap();
            tokio::time::sleep(SOON).await;
        } else {
            drop(sender);
            read_until(&mut endpoint, "0\r\n\r\n").await;
        }
        endpoint.write_all(b"lf").await.unwrap();
        assert_eq!(soon(reading).await.unwrap(), "half", "an upload that fails does not fail the response");
        if fails {
            assert_eq!(fixture.assert_closed(endpoint).await, "");
        } else {
            fixture.assert_reused(&mut endpoint).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_precedes_the_failure_of_the_upload() {
    let mut fixture = Fixture::new();
    let sending = fixture.send(Method::POST, Body::from("x".repeat(3 * PIPE)));
    let mut endpoint = fixture.accept().await;
    read_until(&mut endpoint, "\r\n\r\n").await;
    endpoint.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    drop(endpoint);
    assert_eq!(response(sending).await, (StatusCode::PAYLOAD_TOO_LARGE, Bytes::from("no")));
    assert_eq!(fixture.target.endpoint.stats().cx_active.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_upload_arrives_whole_through_a_slow_connection() {
    let mut fixture = Fixture::new();
    let sent: String = (0..5 * PIPE).map(|i| char::from(b'a' + u8::try_from(i % 26).unwrap())).collect();
    let sending = fixture.send(Method::POST, Body::from(sent.clone()));
    let mut endpoint = fixture.accept().await;
    read_until(&mut endpoint, "\r\n\r\n").await;
    let mut received = vec![0; sent.len()];
    soon(endpoint.read_exact(&mut received)).await.unwrap();
    assert!(received == sent.as_bytes());
    endpoint.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(response(sending).await.1, "ok");
    fixture.assert_reused(&mut endpoint).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_body_fails_is_reset() {
    let mut too_short = Request::new(Body::from("four")).into_body();
    for case in ["fails", "is too long"] {
        let mut fixture = Fixture::new();
        let body = if case == "fails" { Body::new(HalfBody::default()) } else { std::mem::take(&mut too_short) };
        let target = fixture.target.clone();
        let mut request = Request::post("/").header("host", "a.test");
        if case == "is too long" {
            request = request.header("content-length", "3");
        }
        let mut call = Call::new(request.body(body).unwrap());
        let outcome = soon(connect(&target)).await.unwrap().send(&mut call).await;
        assert_eq!(outcome.unwrap_err().reason(), ResetReason::LocalReset, "{case}");
        let endpoint = fixture.accept().await;
        assert!(!fixture.assert_closed(endpoint).await.ends_with("0\r\n\r\n"), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_endpoint_closes_or_writes_to_is_not_used() {
    for is_swept in [false, true] {
        for unexpected in [None, Some("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")] {
            let mut fixture = Fixture::new();
            let (mut endpoint, sending) = fixture.get().await;
            endpoint.write_all(OK.as_bytes()).await.unwrap();
            response(sending).await;
            match unexpected {
                Some(bytes) => endpoint.write_all(bytes.as_bytes()).await.unwrap(),
                None => endpoint.shutdown().await.unwrap(),
            }
            assert_eq!(fixture.target.endpoint.stats().cx_active.get(), 1);
            if is_swept {
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert_eq!(fixture.target.endpoint.stats().cx_active.get(), 0);
            }
            let (_other, _sending) = fixture.get().await;
            assert_eq!(soon(endpoint.read_to_end(&mut Vec::new())).await.unwrap(), 0, "it gets no request");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_nothing_was_sent_is_given_back() {
    for text in ["", "hello"] {
        let mut fixture = Fixture::new();
        let connection = soon(connect(&fixture.target)).await.unwrap();
        drop(fixture.accept().await);
        let mut call = Call::new(Request::post("/").header("host", "a.test").body(Body::from(text)).unwrap());
        let error = soon(connection.send(&mut call)).await.unwrap_err();
        assert_eq!(error.reason(), ResetReason::ConnectionTermination);
        assert!(!call.is_sent());
        // Now elsewhere.
        let connection = soon(connect(&fixture.target)).await.unwrap();
        let sending: Sending = tokio::spawn(async move {
            let outcome = connection.send(&mut call).await;
            (call, outcome)
        });
        let mut endpoint = fixture.accept().await;
        read_until(&mut endpoint, &format!("content-length: {}\r\n\r\n{text}", text.len())).await;
        endpoint.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(response(sending).await.1, "ok");
        let stats = fixture.target.stats();
        assert_eq!(stats.upstream_cx_destroy_with_active_rq.get(), 0);
    }
}
