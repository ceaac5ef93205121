//! Requests and responses of HTTP/1 as clients see them.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use mesh_core::model::HeaderKeyFormat;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::tests::{Fixture, TestService, everything_to_the_service, http, normalized, read_until, service};
use crate::{Body, BoxError};

const SECOND: Duration = Duration::from_secs(1);

/// Answers with the body of the request, and its trailer `etag`.
fn echo() -> TestService {
    service(|request: Request<Body>| async {
        let collected = request.into_body().collect().await.unwrap();
        let trailer = collected.trailers().map_or("-", |trailers| trailers["etag"].to_str().unwrap()).to_owned();
        Response::new(Body::from(format!("{:?} {trailer}", collected.to_bytes())))
    })
}

/// A body of unknown length.
struct Streamed(Option<&'static str>);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

fn streamed(text: &'static str) -> Body {
    Body::new(Streamed(Some(text)))
}

#[tokio::test(start_paused = true)]
async fn an_expectation_gets_one_interim_response_before_the_body_is_read() {
    let mut config = http(everything_to_the_service());
    config.accept_http_10 = Some("a.test".into());
    let fixture = Fixture::new(config, echo());
    for version in ["1.1", "1.0"] {
        let mut client = fixture.connect();
        let head =
            format!("POST / HTTP/{version}\r\nhost: a.test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        if version == "1.1" {
            let interim = timeout(SECOND, read_until(&mut client, "\r\n\r\n")).await.unwrap();
            assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
        }
        assert!(timeout(SECOND, client.read_u8()).await.is_err(), "nothing else before the body");
        client.write_all(b"hi").await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\nb\"hi\" -").await;
        assert!(answer.starts_with(&format!("HTTP/{version} 200 OK\r\n")), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunked_request_has_its_trailers_if_they_are_enabled() {
    let upload = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n\
                  5\r\nhello\r\n6;a=b\r\n world\r\n0\r\netag: t\r\n\r\n";
    for (enable_trailers, expected) in [(false, "\r\n\r\nb\"hello world\" -"), (true, "\r\n\r\nb\"hello world\" t")] {
        let mut config = http(everything_to_the_service());
        config.http1.enable_trailers = enable_trailers;
        let fixture = Fixture::new(config, echo());
        let mut client = fixture.connect();
        for step in [upload.len(), 1, 7] {
            for part in upload.as_bytes().chunks(step) {
                client.write_all(part).await.unwrap();
                sleep(SECOND / 1000).await;
            }
            timeout(SECOND, read_until(&mut client, expected)).await.expect(expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_chunk_is_refused_also_when_it_comes_late() {
    let fixture = Fixture::new(
        http(everything_to_the_service()),
        service(|mut request| async move {
            while let Some(Ok(_)) = request.body_mut().frame().await {}
            let info: crate::StreamInfo = request.extensions_mut().remove().unwrap();
            info.state().response_source = Some(crate::ResponseSource::Local);
            crate::testing::answer(503, "discarded")
        }),
    );
    for malformed in ["x", "3\r\nlong\r\n", "3\n", "0\r\nno trailer\r\n\r\n"] {
        let mut client = fixture.connect();
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n")
            .await
            .unwrap();
        sleep(SECOND).await;
        client.write_all(format!("{malformed}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SECOND, client.read_to_string(&mut answer)).await.expect(malformed).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close"), "{malformed}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn some_responses_have_no_body() {
    let fixture = Fixture::new(
        http(everything_to_the_service()),
        service(|request| async move {
            let path = request.uri().path();
            let body = if path.ends_with("streamed") { streamed("body") } else { Body::from("body") };
            Response::builder().status(&path[1..4]).body(body).unwrap()
        }),
    );
    let lines = ["HEAD /200", "HEAD /200/streamed", "GET /204", "GET /204/streamed", "GET /304", "GET /304/streamed"];
    let requests: String = lines.iter().map(|line| format!("{line} HTTP/1.1\r\nhost: a.test\r\n\r\n")).collect();
    let answers = fixture.exchange_raw(&format!("{requests}{}", super::tests::GET.replace("/p?q", "/200"))).await;
    let answers: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(answers.len(), 7, "{answers:?}");
    for (line, answer) in lines.iter().zip(&answers) {
        let status = line.split('/').nth(1).unwrap();
        assert!(answer.starts_with(status) && answer.ends_with("\r\n\r\n"), "{line}: {answer}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{line}: {answer}");
        assert_eq!(answer.contains("content-length: 4"), *line == "HEAD /200", "{line}: {answer}");
    }
    assert!(answers[6].ends_with("\r\n\r\nbody"), "{}", answers[6]);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http_10_may_keep_its_connection() {
    let mut config = http(everything_to_the_service());
    config.accept_http_10 = Some("a.test".into());
    let fixture = Fixture::new(
        config,
        service(|request| async move {
            let is_streamed = request.uri().path() == "/streamed";
            Response::new(if is_streamed { streamed("body") } else { Body::from("body") })
        }),
    );
    let request = |path: &str, header: &str| format!("GET {path} HTTP/1.0\r\n{header}\r\n");
    let keep_alive = "connection: keep-alive\r\n";
    let close = "HTTP/1.0 200 OK | connection: close | content-length: 4 | server: envoy | body";
    assert_eq!(normalized(&fixture.exchange_raw(&request("/", "").repeat(2)).await), close);
    let mut client = fixture.connect();
    for _ in 0..2 {
        client.write_all(request("/", keep_alive).as_bytes()).await.unwrap();
        let answer = normalized(&read_until(&mut client, "\r\n\r\nbody").await);
        assert_eq!(answer, close.replace("close", "keep-alive"));
        sleep(SECOND).await;
    }
    client.write_all(request("/streamed", keep_alive).as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SECOND, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(normalized(&answer), "HTTP/1.0 200 OK | connection: close | server: envoy | body");
}

#[tokio::test(start_paused = true)]
async fn header_names_have_the_spelling_of_the_options() {
    let proper = HeaderKeyFormat::ProperCaseWords;
    let cases = [
        (proper, "Content-Length: 4\r\n", "X-A: 1\r\n", "Date: "),
        (HeaderKeyFormat::LowerCase, "content-length: 4\r\n", "x-a: 1\r\n", "date: "),
    ];
    for (format, length, header, date) in cases {
        let mut config = http(everything_to_the_service());
        config.http1.header_key_format = format;
        config.max_request_headers_kb = 1;
        let answer = async || Response::builder().header("x-a", "1").body(Body::from("body")).unwrap();
        let fixture = Fixture::new(config, service(move |_| answer()));
        let answer = fixture.exchange_raw(super::tests::GET).await;
        assert!(answer.contains(length) && answer.contains(header) && answer.contains(date), "{answer}");
        let refused = fixture.exchange_raw("nonsense\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains(date), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_names_of_a_response_keep_their_spelling() {
    let mut config = http(everything_to_the_service());
    config.http1.header_key_format = HeaderKeyFormat::PreserveCase;
    // What was received from the client has the names in its extensions.
    let reflect = service(|mut request: Request<Body>| async move {
        let mut response = Response::new(Body::empty());
        let names: Option<mesh_core::http1::ReceivedNames> = request.extensions_mut().remove();
        response.extensions_mut().insert(names.unwrap());
        response.headers_mut().insert("x-myname", request.headers()["x-myname"].clone());
        response
    });
    let fixture = Fixture::new(config, reflect);
    let request = "GET / HTTP/1.1\r\nhost: a.test\r\nX-myNAME: 1\r\nConnection: close\r\n\r\n";
    let answer = fixture.exchange_raw(request).await;
    assert!(answer.contains("\r\nX-myNAME: 1\r\n") && answer.contains("\r\nserver: envoy\r\n"), "{answer}");
}
