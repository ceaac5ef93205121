//! HTTP/2 connections of a listener, seen by a client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use mesh_core::model::{Codec, HeadersWithUnderscoresAction};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
};

use super::tests::{Fixture, TestService, everything_to_the_service, http, service};
use crate::{Body, testing::HalfBody};

fn fixture(answer: TestService) -> Fixture {
    Fixture::new(http(everything_to_the_service()), answer)
}

/// A client with the default windows of 65,535 bytes.
async fn client(fixture: &Fixture) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(fixture.connect()).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://a.test{path}")).body(()).unwrap()
}

async fn get(client: &mut SendRequest<Bytes>, path: &str) -> Response<h2::RecvStream> {
    let (response, _) = client.send_request(request(Method::GET, path), true).unwrap();
    response.await.unwrap()
}

/// The data of a body, and how it ended.
async fn read(mut body: h2::RecvStream) -> (Vec<u8>, Result<Option<HeaderMap>, Option<Reason>>) {
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        match chunk {
            Ok(chunk) => {
                body.flow_control().release_capacity(chunk.len()).unwrap();
                data.extend_from_slice(&chunk);
            }
            Err(error) => return (data, Err(error.reason())),
        }
    }
    let end = body.trailers().await.map_err(|error| error.reason());
    (data, end)
}

#[tokio::test]
async fn what_came_before_a_failure_reaches_the_client_and_then_the_reset() {
    let fixture = fixture(service(|_| async { Response::new(Body::new(HalfBody::default())) }));
    let mut client = client(&fixture).await;
    for _ in 0..2 {
        let response = get(&mut client, "/").await;
        assert_eq!(response.status(), 200);
        assert_eq!(read(response.into_body()).await, (b"half".to_vec(), Err(Some(Reason::INTERNAL_ERROR))));
    }
}

#[tokio::test]
async fn a_response_has_a_date_and_its_length_but_no_headers_of_a_connection() {
    let fixture = fixture(service(|_| async {
        let response = Response::builder().header("connection", "close").header("keep-alive", "5");
        response.header("x-end", "2").body(Body::from("four")).unwrap()
    }));
    let mut client = client(&fixture).await;
    let response = get(&mut client, "/").await;
    let mut names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "server", "x-end"]);
    assert_eq!(response.headers()["content-length"], "4");
    assert_eq!(read(response.into_body()).await, (b"four".to_vec(), Ok(None)));
}

/// Responds with the method, the size hint of the body, the body, and its trailers.
fn describe() -> TestService {
    service(|request| async move {
        let method = request.method().clone();
        let (is_end, hint) = {
            let body = request.body();
            (http_body::Body::is_end_stream(body), http_body::Body::size_hint(body).exact())
        };
        let body = request.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned();
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        let full = Full::new(Bytes::from(format!("{method} {is_end} {hint:?} {text}")));
        Response::new(Body::new(full.with_trailers(std::future::ready(trailers.map(Ok)))))
    })
}

#[tokio::test]
async fn a_request_has_a_body_unless_its_headers_end_the_stream() {
    let fixture = fixture(describe());
    let mut client = client(&fixture).await;
    for method in [Method::GET, Method::HEAD, Method::DELETE, Method::POST] {
        let (response, mut body) = client.send_request(request(method.clone(), "/"), false).unwrap();
        body.send_data(Bytes::from("text"), true).unwrap();
        let response = response.await.unwrap();
        // The answer to HEAD has no body, but the length that it would have.
        let expected = format!("{method} false None text");
        let (data, end) = read(response.into_body()).await;
        assert_eq!(end, Ok(None));
        assert_eq!(String::from_utf8(data).unwrap(), if method == Method::HEAD { "" } else { &*expected });
    }
    let (response, _) = client.send_request(request(Method::GET, "/"), true).unwrap();
    assert_eq!(read(response.await.unwrap().into_body()).await.0, b"GET true Some(0) ");
    let mut sized = request(Method::GET, "/");
    sized.headers_mut().insert("content-length", HeaderValue::from_static("2"));
    let (response, mut body) = client.send_request(sized, false).unwrap();
    body.send_data(Bytes::from("ab"), true).unwrap();
    assert_eq!(read(response.await.unwrap().into_body()).await.0, b"GET false Some(2) ab");
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let fixture = fixture(describe());
    let mut client = client(&fixture).await;
    let (response, mut body) = client.send_request(request(Method::POST, "/"), false).unwrap();
    let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), HeaderValue::from_static("1"))]);
    body.send_data(Bytes::from("text"), false).unwrap();
    body.send_trailers(trailers.clone()).unwrap();
    assert_eq!(read(response.await.unwrap().into_body()).await.1, Ok(Some(trailers)));
}

#[tokio::test]
async fn an_upload_that_the_client_resets_does_not_pass_for_a_whole_one() {
    // hyper's bodies end well after these.
    for reason in [Reason::CANCEL, Reason::NO_ERROR] {
        let ends = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let seen = Arc::clone(&ends);
        let fixture = fixture(service(move |request: Request<Body>| {
            let seen = Arc::clone(&seen);
            async move {
                let collected = request.into_body().collect().await;
                seen.lock().push(collected.is_ok());
                Response::new(Body::empty())
            }
        }));
        let mut client = client(&fixture).await;
        let (_response, mut body) = client.send_request(request(Method::POST, "/"), false).unwrap();
        body.send_data(Bytes::from("half"), false).unwrap();
        while fixture.stat("http.in.downstream_rq_active") == 0 {
            yield_now().await;
        }
        body.send_reset(reason);
        while fixture.stat("http.in.downstream_rq_active") > 0 {
            yield_now().await;
        }
        assert_eq!(*ends.lock(), [false], "{reason:?}");
    }
}

/// A body of frames of 10,000 bytes, which counts those that were read.
struct Counted(Arc<AtomicUsize>, usize);

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = crate::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, crate::BoxError>>> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        self.1 -= 1;
        self.0.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from(vec![7; 10_000])))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_no_faster_than_the_client_takes_it() {
    let polled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polled);
    let fixture = fixture(service(move |_| {
        let body = Body::new(Counted(Arc::clone(&counter), 100));
        async { Response::new(body) }
    }));
    let mut client = client(&fixture).await;
    let response = get(&mut client, "/").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(polled.load(Ordering::SeqCst), 7, "one more than fits into the window");
    let (data, end) = read(response.into_body()).await;
    assert_eq!((data.len(), end), (1_000_000, Ok(None)));
    assert_eq!(polled.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn the_listener_answers_an_expectation_before_the_body_is_sent() {
    let fixture = fixture(service(|request: Request<Body>| async move {
        assert!(!request.headers().contains_key("expect"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Body::from(body))
    }));
    let mut client = client(&fixture).await;
    let mut expecting = request(Method::POST, "/");
    expecting.headers_mut().insert("expect", HeaderValue::from_static("100-Continue"));
    let (mut response, mut body) = client.send_request(expecting, false).unwrap();
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!((interim.status().as_u16(), interim.headers().len()), (100, 0));
    body.send_data(Bytes::from("waited"), true).unwrap();
    assert_eq!(read(response.await.unwrap().into_body()).await.0, b"waited");
}

#[tokio::test]
async fn a_broken_preface_is_a_connection_error_of_http2() {
    let broken = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r?";
    let cases: [(Codec, &[u8], bool); 4] = [
        (Codec::Auto, broken, true),
        (Codec::Http2, broken, true),
        (Codec::Http2, b"GET / HTTP/1.1\r\n\r\n", true),
        (Codec::Auto, b"PRI / HTTP/1.1\r\n\r\n", false),
    ];
    for (codec_type, bytes, is_http2) in cases {
        let mut config = http(everything_to_the_service());
        config.codec_type = codec_type;
        let fixture = Fixture::new(config, describe());
        let mut client = fixture.connect();
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        if is_http2 {
            let go_away = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
            assert_eq!(answer, [b"\0\0\0\x04\0\0\0\0\0", &go_away[..]].concat(), "{codec_type:?}");
            assert_eq!(fixture.stat("http.in.downstream_cx_protocol_error"), 1, "{codec_type:?}");
        } else {
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "{codec_type:?}");
        }
    }
}

#[tokio::test]
async fn an_ending_connection_finishes_its_requests_after_two_go_aways() {
    let fixture = fixture(service(|_| async { Response::new(Body::from("1")) }));
    let mut client = fixture.connect();
    let get = b"\0\0\x0b\x01\x05\0\0\0\x01\x82\x86\x84\x41\x06a.test";
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    client.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await.unwrap();
    while fixture.stat("http.in.downstream_cx_http2_active") == 0 {
        yield_now().await;
    }
    fixture.drain.begin();
    let mut last_streams = Vec::new();
    let mut answered = 0;
    loop {
        let mut head = [0; 9];
        if client.read_exact(&mut head).await.is_err() {
            break;
        }
        let [_, high, low, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
        client.read_exact(&mut payload).await.unwrap();
        match kind {
            7 => {
                last_streams.push(u32::from_be_bytes(payload[..4].try_into().unwrap()));
                if last_streams.len() == 1 {
                    // A request that was on its way.
                    client.write_all(get).await.unwrap();
                }
            }
            6 if flags == 0 => client.write_all(&[b"\0\0\x08\x06\x01\0\0\0\0", &*payload].concat()).await.unwrap(),
            0 => answered += payload.len(),
            _ => {}
        }
    }
    assert_eq!((last_streams, answered), (vec![0x7fff_ffff, 1], 1));
}

/// The statistics of headers with underscores, as `dropped rejected`, and of resets.
fn underscores(fixture: &Fixture, version: &str) -> [u64; 3] {
    [
        fixture.stat(&format!("{version}.dropped_headers_with_underscores")),
        fixture.stat(&format!("{version}.requests_rejected_with_underscores_in_headers")),
        fixture.stat("http.in.downstream_rq_rx_reset"),
    ]
}

/// A listener whose service responds with the names of the headers and trailers of a request that have an underscore.
fn with_underscores(action: HeadersWithUnderscoresAction) -> Fixture {
    let mut config = http(everything_to_the_service());
    config.headers_with_underscores_action = action;
    config.http1.enable_trailers = true;
    let answer = service(|request| async move {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Response::new(Body::from("aborted")) };
        let trailers = body.trailers().cloned().unwrap_or_default();
        let names = head.headers.keys().chain(trailers.keys()).map(http::HeaderName::as_str);
        Response::new(Body::from(names.filter(|name| name.contains('_')).collect::<Vec<_>>().join(" ")))
    });
    Fixture::new(config, answer)
}

/// The response to a request with an underscore in a header and in a trailer, or the reset of its stream.
async fn send_underscores(fixture: &Fixture, header: bool, trailer: bool) -> Result<String, Option<Reason>> {
    let mut client = client(fixture).await;
    let mut request = request(Method::POST, "/");
    if header {
        request.headers_mut().insert("a_b", HeaderValue::from_static("1"));
    }
    let (response, mut body) = client.send_request(request, false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert(if trailer { "c_d" } else { "c-d" }, HeaderValue::from_static("1"));
    let _ = body.send_trailers(trailers);
    let response = response.await.map_err(|error| error.reason())?;
    Ok(String::from_utf8(read(response.into_body()).await.0).unwrap())
}

#[tokio::test]
async fn headers_with_underscores_pass_are_dropped_or_reset_the_stream() {
    let fixture = with_underscores(HeadersWithUnderscoresAction::Allow);
    assert_eq!(send_underscores(&fixture, true, true).await.as_deref(), Ok("a_b c_d"));
    let fixture = with_underscores(HeadersWithUnderscoresAction::DropHeader);
    assert_eq!(send_underscores(&fixture, true, true).await.as_deref(), Ok(""));
    assert_eq!(underscores(&fixture, "http2"), [2, 0, 0]);
    let fixture = with_underscores(HeadersWithUnderscoresAction::RejectRequest);
    assert_eq!(send_underscores(&fixture, false, false).await.as_deref(), Ok(""));
    assert_eq!(send_underscores(&fixture, true, false).await, Err(Some(Reason::INTERNAL_ERROR)));
    assert_eq!(underscores(&fixture, "http2"), [0, 1, 1]);
}

#[tokio::test]
async fn over_http1_a_header_with_an_underscore_is_answered_with_400() {
    let head = "PUT / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n";
    let both = format!("{head}a_b: 1\r\n\r\n0\r\nc_d: 1\r\n\r\n");
    let fixture = with_underscores(HeadersWithUnderscoresAction::DropHeader);
    assert!(fixture.exchange(&both).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(underscores(&fixture, "http1")[..2], [2, 0]);
    let fixture = with_underscores(HeadersWithUnderscoresAction::RejectRequest);
    for request in [both, format!("{head}\r\n0\r\nc_d: 1\r\n\r\n")] {
        assert!(fixture.exchange(&request).await.starts_with("HTTP/1.1 400 Bad Request"));
    }
    assert_eq!(underscores(&fixture, "http1")[..2], [0, 2]);
    assert_eq!(fixture.stat("http.in.downstream_cx_protocol_error"), 2);
}
