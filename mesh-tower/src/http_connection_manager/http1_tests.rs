//! Connections of HTTP/1 clients: pipelining, idle times, early ends.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use super::tests::{Fixture, Log, TestService, everything_to_the_service, http, read_until, service};
use crate::{Body, BoxError, drain::DrainTimes, testing::HalfBody};

const SECOND: Duration = Duration::from_secs(1);

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")
}

fn fixture(service: TestService) -> Fixture {
    Fixture::new(http(everything_to_the_service()), service)
}

/// Answers with the path.
fn echo_path() -> TestService {
    service(|request| async move { Response::new(Body::from(request.uri().path().to_owned())) })
}

async fn rest(client: &mut DuplexStream) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    rest
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_one_after_the_other() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let fixture = fixture(service(move |request| {
        let events = Arc::clone(&events);
        async move {
            let path = request.uri().path().to_owned();
            events.lock().push(format!("{path} begins"));
            sleep(if path == "/1" { 3 * SECOND } else { SECOND }).await;
            events.lock().push(format!("{path} ends"));
            Response::new(Body::from(path))
        }
    }));
    let mut client = fixture.connect();
    let last = "GET /3 HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    client.write_all([&*request("/1"), &request("/2"), last].concat().as_bytes()).await.unwrap();
    let answers = rest(&mut client).await;
    let bodies: Vec<_> = answers.split("HTTP/1.1 200 OK").skip(1).map(|text| text.split("\r\n\r\n").nth(1)).collect();
    assert_eq!(bodies, [Some("/1"), Some("/2"), Some("/3")]);
    assert_eq!(*seen.lock(), ["/1 begins", "/1 ends", "/2 begins", "/2 ends", "/3 begins", "/3 ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pipelines_too_much_must_wait() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let fixture = fixture(service(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            let _ = gate.acquire().await.unwrap();
            Response::new(Body::from("x"))
        }
    }));
    let (mut read, mut write) = tokio::io::split(fixture.connect());
    let many = request("/").repeat(25);
    let mut written = 0;
    while timeout(SECOND, write.write_all(many.as_bytes())).await.is_ok() {
        written += 25;
        assert!(written * request("/").len() < 512 * 1024, "nothing stops the client");
    }
    assert!(written * request("/").len() > 64 * 1024, "some are kept");
    opened.add_permits(1);
    let mut answers = Vec::new();
    while timeout(SECOND, read.read_buf(&mut answers)).await.is_ok() {}
    let answers = String::from_utf8(answers).unwrap();
    let answered = answers.matches("HTTP/1.1 200 OK").count();
    // Those that were written before the last write had to wait.
    assert!((written..written + 25).contains(&answered), "{answered} of {written}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_serves_the_next_request() {
    let fixture = fixture(echo_path());
    let mut client = fixture.connect();
    for (number, pause) in [0, 50, 99, 101, 150, 500, 60_000, 10].into_iter().enumerate() {
        sleep(Duration::from_millis(pause)).await;
        client.write_all(request(&format!("/{number}")).as_bytes()).await.unwrap();
        read_until(&mut client, &format!("\r\n\r\n/{number}")).await;
        sleep(Duration::from_millis(pause)).await;
        for byte in request(&format!("/slow/{number}")).as_bytes() {
            client.write_all(&[*byte]).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        read_until(&mut client, &format!("\r\n\r\n/slow/{number}")).await;
    }
    assert_eq!(fixture.stat("http.in.downstream_cx_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_request_headers_timeout_begins_with_the_first_byte_also_after_a_request() {
    let mut config = http(everything_to_the_service());
    config.request_headers_timeout = Some(10 * SECOND);
    let fixture = Fixture::new(config, echo_path());
    for pause in [Duration::ZERO, SECOND / 20, SECOND / 2] {
        let mut client = fixture.connect();
        client.write_all(request("/1").as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\n/1").await;
        sleep(pause).await;
        client.write_all(b"G").await.unwrap();
        let start = Instant::now();
        sleep(9 * SECOND).await;
        client.write_all(b"ET").await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 408 "));
        assert_eq!(start.elapsed(), 10 * SECOND);
    }
}

const UPLOAD: &str = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000000\r\n\r\nbeginning";

#[tokio::test(start_paused = true)]
async fn the_rest_of_an_upload_is_dropped_for_a_second_after_an_early_response() {
    let fixture = fixture(service(|_| async { Response::new(Body::from("enough")) }));
    let mut client = fixture.connect();
    client.write_all(UPLOAD.as_bytes()).await.unwrap();
    let start = Instant::now();
    let answer = rest(&mut client).await;
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("enough"), "{answer}");
    assert_eq!(start.elapsed(), Duration::ZERO);
    for _ in 0..9 {
        sleep(SECOND / 10).await;
        client.write_all(&[b'x'; 100_000]).await.expect("the client may go on");
    }
    fixture.drain.emptied().await;
    assert_eq!(start.elapsed(), SECOND);
    assert!(client.write_all(b"x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_the_rest_of_its_refused_upload() {
    let fixture = fixture(service(|_| async { Response::new(Body::from("enough")) }));
    let mut client = fixture.connect();
    client.write_all(UPLOAD.as_bytes()).await.unwrap();
    let start = Instant::now();
    rest(&mut client).await;
    sleep(SECOND / 4).await;
    drop(client);
    fixture.drain.emptied().await;
    assert_eq!(start.elapsed(), SECOND / 4);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_fails_is_not_completed() {
    let fixture = fixture(service(|request| async move {
        let mut response = Response::new(Body::new(HalfBody::default()));
        if request.uri().path() == "/sized" {
            response.headers_mut().insert("content-length", 10.into());
        }
        response
    }));
    for (path, expected) in [("/chunked", "\r\n\r\n4\r\nhalf\r\n"), ("/sized", "\r\n\r\nhalf")] {
        let answer = fixture.exchange_raw(&request(path).repeat(2)).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(expected), "{answer}");
    }
}

/// Counts how often it is dropped.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A body that has no frame.
struct Silent(#[expect(dead_code, reason = "it is dropped with the body")] Guard);

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_connection_cancels_the_request() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let mut config = http(everything_to_the_service());
    let log = Log::new("http1-cancelled", &mut config, "%REQ(:PATH)% %RESPONSE_FLAGS%\n");
    let handler = service(move |mut request: Request<Body>| {
        let guard = Guard(Arc::clone(&dropped));
        async move {
            match request.uri().path() {
                "/body" => return Response::new(Body::new(Silent(guard))),
                "/reads" => while request.body_mut().frame().await.is_some() {},
                "/reads-one" => drop(request.body_mut().frame().await),
                _ => {}
            }
            let _guard = guard;
            std::future::pending().await
        }
    });
    let fixture = Fixture::new(config, handler);
    let (mut expected, mut lines) = (0, String::new());
    for path in ["/waits", "/body", "/reads", "/reads-one"] {
        for upload in ["", "content-length: 9\r\n", "transfer-encoding: chunked\r\n"] {
            for half_closes in [true, false] {
                let mut client = fixture.connect();
                let request = format!("POST {path} HTTP/1.1\r\nhost: a.test\r\n{upload}\r\n");
                client.write_all(request.as_bytes()).await.unwrap();
                sleep(SECOND).await;
                if !upload.is_empty() {
                    client.write_all(b"3\r\nabc\r\n").await.unwrap();
                    sleep(SECOND).await;
                }
                if path == "/body" {
                    read_until(&mut client, "\r\n\r\n").await;
                }
                assert_eq!(fixture.stat("http.in.downstream_rq_active"), 1, "{request}");
                client.shutdown().await.unwrap();
                let open = half_closes.then_some(client);
                sleep(SECOND).await;
                assert_eq!(fixture.stat("http.in.downstream_rq_active"), 0, "{request}");
                expected += 1;
                assert_eq!(count.load(Ordering::SeqCst), expected, "{request}");
                lines.push_str(&format!("{path} DC\n"));
                drop(open);
            }
        }
    }
    assert_eq!(log.read(&fixture), lines);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_read_in_another_task_arrives() {
    let fixture = fixture(service(|request: Request<Body>| async {
        let reading = tokio::spawn(request.into_body().collect());
        Response::new(Body::from(reading.await.unwrap().unwrap().to_bytes()))
    }));
    let mut client = fixture.connect();
    client.write_all(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    for part in ["one", "two", "six"] {
        sleep(SECOND).await;
        client.write_all(part.as_bytes()).await.unwrap();
    }
    timeout(SECOND, read_until(&mut client, "\r\n\r\nonetwosix")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_slowed_down_by_its_reader() {
    let fixture = fixture(service(|mut request: Request<Body>| async move {
        let mut length = 0;
        while let Some(frame) = request.body_mut().frame().await {
            length += frame.unwrap().into_data().unwrap().len();
            sleep(SECOND).await;
        }
        Response::new(Body::from(length.to_string()))
    }));
    let mut client = fixture.connect();
    let length = 2_000_000;
    let head = format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let start = Instant::now();
    client.write_all(&vec![0; length]).await.unwrap();
    assert!(start.elapsed() > 3 * SECOND, "{:?}", start.elapsed());
    read_until(&mut client, "\r\n\r\n2000000").await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_connection_answers_no_request_after_the_current_one() {
    let fixture = fixture(service(|request| async move {
        sleep(5 * SECOND).await;
        Response::new(Body::from(request.uri().path().to_owned()))
    }));
    let mut client = fixture.connect();
    client.write_all([request("/1"), request("/2")].concat().as_bytes()).await.unwrap();
    sleep(SECOND).await;
    let times = DrainTimes { idle_grace: SECOND, drain_time: 60 * SECOND };
    let drain = fixture.drain.clone();
    let draining = tokio::spawn(async move { drain.run(times).await });
    let answers = rest(&mut client).await;
    assert!(answers.contains("connection: close") && answers.ends_with("\r\n\r\n/1"), "{answers}");
    draining.await.unwrap();
}
