//! What is written for a head and a body.

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};

use super::{
    super::{BodyWriter, RequestReader, WrongLength, write_interim, write_request, write_response},
    LIMITS, options, spelled,
};
use crate::model::{HeaderKeyFormat, Http1Options};

fn request(method: &str, target: &str, lines: &[(&'static str, &'static str)], body: Option<u64>) -> String {
    let mut head = Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0;
    head.headers
        .extend(lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
    let mut out = Vec::new();
    write_request(&head, body, options(), &mut out);
    String::from_utf8(out).unwrap()
}

fn response(
    status: u16,
    lines: &[(&'static str, &'static str)],
    body: Option<u64>,
    request: (&Method, Version),
) -> String {
    let mut head = Response::builder().status(status).body(()).unwrap().into_parts().0;
    head.headers
        .extend(lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
    let mut out = Vec::new();
    write_response(&head, body, request, options(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn requests_have_the_target_of_their_form() {
    let line = |method: &str, target: &str| request(method, target, &[("host", "x")], Some(0));
    assert_eq!(line("GET", "/a?b"), "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(line("OPTIONS", "*"), "OPTIONS * HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(line("GET", "http://h:1/a"), "GET /a HTTP/1.1\r\nhost: h:1\r\n\r\n");
    assert_eq!(line("GET", "http://h"), "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(line("GET", "http://h?a"), "GET /?a HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(line("CONNECT", "h:1"), "CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\n\r\n");
}

#[test]
fn requests_have_one_framing() {
    let framing = |method: &str, lines: &[(&'static str, &'static str)], body: Option<u64>| {
        let text = request(method, "/", lines, body);
        text.strip_prefix(&format!("{method} / HTTP/1.1\r\n")).unwrap().to_owned()
    };
    for method in ["GET", "HEAD", "DELETE", "TRACE"] {
        assert_eq!(framing(method, &[], Some(0)), "\r\n", "{method}");
    }
    for method in ["POST", "PUT", "PATCH", "OPTIONS", "QUERY", "BREW"] {
        assert_eq!(framing(method, &[], Some(0)), "content-length: 0\r\n\r\n", "{method}");
    }
    assert_eq!(framing("GET", &[], Some(3)), "content-length: 3\r\n\r\n");
    assert_eq!(framing("GET", &[], None), "transfer-encoding: chunked\r\n\r\n");
    assert_eq!(framing("POST", &[("content-length", "0003")], None), "content-length: 0003\r\n\r\n");
    assert_eq!(framing("POST", &[("transfer-encoding", "gzip")], Some(3)), "content-length: 3\r\n\r\n");
    assert_eq!(framing("POST", &[("content-length", "+3")], Some(3)), "content-length: 3\r\n\r\n");
    assert_eq!(framing("POST", &[("content-length", "a")], None), "transfer-encoding: chunked\r\n\r\n");
    let two = [("content-length", "3"), ("content-length", "4")];
    assert_eq!(framing("POST", &two, None), "transfer-encoding: chunked\r\n\r\n");
}

#[test]
fn responses_have_one_framing() {
    let (get, head, connect) =
        ((&Method::GET, Version::HTTP_11), (&Method::HEAD, Version::HTTP_11), (&Method::CONNECT, Version::HTTP_11));
    let old = (&Method::GET, Version::HTTP_10);
    let length = [("content-length", "3")];
    assert_eq!(response(200, &[], Some(3), get), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(response(200, &[], Some(0), get), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(response(200, &[], None, get), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(response(200, &length, None, get), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(response(299, &[], None, old), "HTTP/1.0 299 Unknown\r\n\r\n");
    assert_eq!(response(200, &[], Some(3), old), "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(response(200, &length, Some(0), head), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(response(200, &[], Some(0), head), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(response(200, &[], Some(0), (&Method::HEAD, Version::HTTP_10)), "HTTP/1.0 200 OK\r\n\r\n");
    assert_eq!(response(304, &length, Some(0), get), "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(response(304, &[("content-length", "a")], Some(0), get), "HTTP/1.1 304 Not Modified\r\n\r\n");
    assert_eq!(response(204, &length, Some(0), get), "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(response(200, &length, None, connect), "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(response(403, &length, None, connect), "HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\n");
}

#[test]
fn interim_responses_have_no_framing() {
    let headers = [("link", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let mut out = Vec::new();
    write_interim(StatusCode::EARLY_HINTS, &headers.into_iter().collect(), options(), &mut out);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n");
}

#[test]
fn bodies_have_the_length_that_their_head_declares() {
    let writer = |body: Option<u64>| {
        let head = Request::post("/").body(()).unwrap().into_parts().0;
        write_request(&head, body, options(), &mut Vec::new())
    };
    let mut out = Vec::new();
    let mut body = writer(Some(3));
    assert_eq!(body.begin_data(2, &mut out), Ok(()));
    assert_eq!(body.end(None, &mut out), Err(WrongLength));
    assert_eq!(body.begin_data(2, &mut out), Err(WrongLength));
    assert_eq!(body.begin_data(1, &mut out), Ok(()));
    assert_eq!((body.after_data(), body.end(None, &mut out)), (&b""[..], Ok(())));
    assert!(out.is_empty());
    assert_eq!(writer(Some(0)).begin_data(1, &mut out), Err(WrongLength));
}

#[test]
fn trailers_are_written_if_they_are_enabled() {
    let end = |mut body: BodyWriter| {
        let trailers = [("b", "1"), ("content-length", "3"), ("transfer-encoding", "chunked")];
        let trailers = trailers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut out = Vec::new();
        body.end(Some(&trailers.into_iter().collect()), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let writer = |options: Http1Options, body: Option<u64>| {
        let head = Request::post("/").body(()).unwrap().into_parts().0;
        write_request(&head, body, options, &mut Vec::new())
    };
    assert_eq!(end(writer(options(), None)), "0\r\nb: 1\r\n\r\n");
    assert_eq!(end(writer(Http1Options::default(), None)), "0\r\n\r\n");
    assert_eq!(end(writer(options(), Some(0))), "");
}

#[test]
fn names_are_spelled_in_the_format() {
    let lines = "Host: h\r\nx--A-b_c.d9e: 1\r\nETag: 2\r\nX-first: 3\r\nx-FIRST: 4\r\nx-low: 5\r\nX-Low: 6\r\n";
    let input = format!("POST / HTTP/1.1\r\n{lines}Transfer-Encoding: chunked\r\n\r\n");
    let written = |read: HeaderKeyFormat, write: HeaderKeyFormat| {
        let mut reader = RequestReader::new(spelled(read), LIMITS);
        let mut head = reader.read_head(&mut input.as_str().into()).unwrap().unwrap();
        head.parts.headers.insert("x-added", HeaderValue::from_static("7"));
        let mut out = Vec::new();
        write_request(&head.parts, None, spelled(write), &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines().filter_map(|line| Some(line.split_once(": ")?.0.to_owned() + " ")).collect::<String>()
    };
    let lower = "host x--a-b_c.d9e etag x-first x-first x-low x-low x-added transfer-encoding ";
    let proper = "Host X--A-B_C.D9e Etag X-First X-First X-Low X-Low X-Added Transfer-Encoding ";
    let received = "Host x--A-b_c.d9e ETag X-first X-first x-low x-low x-added Transfer-Encoding ";
    assert_eq!(written(HeaderKeyFormat::LowerCase, HeaderKeyFormat::LowerCase), lower);
    assert_eq!(written(HeaderKeyFormat::PreserveCase, HeaderKeyFormat::LowerCase), lower);
    assert_eq!(written(HeaderKeyFormat::LowerCase, HeaderKeyFormat::PreserveCase), lower);
    assert_eq!(written(HeaderKeyFormat::PreserveCase, HeaderKeyFormat::ProperCaseWords), proper);
    assert_eq!(written(HeaderKeyFormat::PreserveCase, HeaderKeyFormat::PreserveCase), received);
}
