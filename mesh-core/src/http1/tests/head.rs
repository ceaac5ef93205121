//! Headers of requests: which are accepted, and what they say.

use bytes::BytesMut;
use http::Method;

use super::{
    super::{
        BodyLength, BodyPart,
        Error::{
            self, BodyDisallowed, HeadersTooLarge, InvalidCharacters, InvalidContentLength, InvalidHeader,
            InvalidStartLine, TooManyHeaders, UnexpectedUnderscore, UnknownMethod, UnsupportedTransferEncoding,
        },
        Limits, RequestReader,
    },
    LIMITS, fields, options, request_head, sorted_fields,
};
/// Checks the headers of requests with these header lines.
fn check_headers(table: &[(&str, Result<&str, Error>)]) {
    for (lines, expected) in table {
        let head = request_head(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes(), options(), LIMITS);
        let headers = head.map(|head| fields(&head.parts.headers));
        assert_eq!(headers.as_deref().map_err(|error| *error), *expected, "{lines:?}");
    }
}

#[test]
fn requests_are_refused_at_their_first_bytes_if_those_are_wrong() {
    let check = |input: &str, expected: Result<(), Error>| {
        let head = RequestReader::new(options(), LIMITS).read_head(&mut input.into());
        assert_eq!(head.map(|head| assert!(head.is_none())), expected, "{input:?}");
    };
    check("", Ok(()));
    check("\r\n\r\n", Ok(()));
    check("\r\nG", Ok(()));
    check("BREW /", Ok(()));
    check("GET / HTTP/1.1\r\n", Ok(()));
    check("GET / HTTP/1.1\r\na: b\r\n", Ok(()));
    check("GET / HTTP/1.1\r\na\r\n", Ok(()));
    check("\u{16}", Err(InvalidStartLine));
    check("\r\n ", Err(InvalidStartLine));
    check("BREW / HTTP/1.1\r\n", Err(UnknownMethod));
    check("GET\n", Err(InvalidStartLine));
}

#[test]
fn header_lines_are_a_token_and_any_text() {
    check_headers(&[
        ("", Ok("")),
        ("host: h\r\nA-b: 1\r\n", Ok("host: h\na-b: 1\n")),
        ("a:b\nc: d\n", Ok("a: b\nc: d\n")),
        ("a: \t b c\td \t\r\n", Ok("a: b c\\td\n")),
        ("a:\r\nb: \r\n", Ok("a: \nb: \n")),
        ("a: b:c\r\n", Ok("a: b:c\n")),
        ("a: \u{e9}\"\\\r\n", Ok("a: \\xc3\\xa9\\\"\\\\\n")),
        ("!#$%&'*+-.^_`|~9: 1\r\n", Ok("!#$%&'*+-.^_`|~9: 1\n")),
        ("b: 1\r\na: 2\r\nb: 3\r\n", Ok("b: 1\nb: 3\na: 2\n")),
        ("host: a\r\nhost: b\r\n", Ok("host: a\nhost: b\n")),
        ("a\r\n", Err(InvalidHeader)),
        (": b\r\n", Err(InvalidHeader)),
        (":path: b\r\n", Err(InvalidHeader)),
        ("a : b\r\n", Err(InvalidHeader)),
        ("a\t: b\r\n", Err(InvalidHeader)),
        ("a b: c\r\n", Err(InvalidHeader)),
        ("a\"b: c\r\n", Err(InvalidHeader)),
        ("é: c\r\n", Err(InvalidHeader)),
        (" a: b\r\n", Err(InvalidHeader)),
        (" \r\na: b\r\n", Err(InvalidHeader)),
        ("\r\r\n", Err(InvalidHeader)),
        ("a: b\rc\r\n", Err(InvalidHeader)),
        ("a: b\r\r\n", Err(InvalidHeader)),
        ("a: b\0c\r\n", Err(InvalidCharacters)),
        ("a: b\u{7f}\r\n", Err(InvalidCharacters)),
        ("a\u{b}: b\r\n", Err(InvalidCharacters)),
        ("a\r\nb: \u{1f}\r\n", Err(InvalidCharacters)),
    ]);
}

#[test]
fn lines_that_begin_with_a_blank_continue_a_header() {
    check_headers(&[
        ("a: 1\r\n   2\r\nb: 3\r\n", Ok("a: 1   2\nb: 3\n")),
        ("a: 1 \n\t2\n", Ok("a: 1 \\t2\n")),
        ("a:\r\n 2\r\n", Ok("a: 2\n")),
        ("a: 1\r\n \r\n\t \r\n", Ok("a: 1\n")),
        ("a: 1\r\n \r\n b: 2 \r\n", Ok("a: 1 b: 2\n")),
        ("content-length:\r\n 3\r\n", Ok("content-length: 3\n")),
        ("content-length: 1\r\n 3\r\n", Err(InvalidContentLength)),
        ("a\r\n : b\r\n", Err(InvalidHeader)),
        ("a: 1\r\n \u{1}\r\n", Err(InvalidCharacters)),
    ]);
}

#[test]
fn heads_are_limited_in_bytes() {
    let head = b"\r\nGET / HTTP/1.1\r\na: bc\r\n\r\n";
    let limits = |max_bytes| Limits::new(max_bytes, 10);
    let exact = head.len() - 2;
    request_head(head, options(), limits(exact)).unwrap();
    assert_eq!(request_head(head, options(), limits(exact - 1)).unwrap_err(), HeadersTooLarge);
    let mut reader = RequestReader::new(options(), limits(20));
    assert!(reader.read_head(&mut "GET / HTTP/1.1\r\na: bc"[..20].into()).unwrap().is_none());
    let mut reader = RequestReader::new(options(), limits(20));
    assert_eq!(reader.read_head(&mut "GET / HTTP/1.1\r\na: bc".into()).unwrap_err(), HeadersTooLarge);
    let mut reader = RequestReader::new(options(), limits(20));
    assert_eq!(reader.read_head(&mut "GET /aaaaaaaaaaaaaaaaaaaa".into()).unwrap_err(), HeadersTooLarge);
}

#[test]
fn heads_are_limited_in_number_of_headers() {
    let limits = Limits::new(1 << 20, 3);
    let check = |lines: &str, expected: Result<usize, Error>| {
        let head = request_head(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes(), options(), limits);
        assert_eq!(head.map(|head| head.parts.headers.len()), expected, "{lines:?}");
    };
    check("a: 1\r\nb: 2\r\nc: 3\r\n", Ok(3));
    check("a: 1\r\na: 2\r\na: 3\r\n", Ok(3));
    check("a: 1\r\n 1\r\n 1\r\nb: 2\r\n \r\nc: 3\r\n 3\r\n", Ok(3));
    check("a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n", Err(TooManyHeaders));
    check("a: 1\r\na: 2\r\na: 3\r\na: 4\r\n", Err(TooManyHeaders));
    check("a: 1\r\na: 2\r\na: 3\r\na: \u{1}\r\n", Err(InvalidCharacters));
}

#[test]
fn headers_with_underscores_may_be_refused_or_dropped() {
    use crate::model::HeadersWithUnderscoresAction::{Allow, DropHeader, RejectRequest};
    let read = |action, bytes: &str| {
        let limits = Limits::new(1 << 20, 2).with_headers_with_underscores_action(action);
        let mut reader = RequestReader::new(options(), limits);
        let mut input = BytesMut::from(bytes);
        let head = reader.read_head(&mut input)?.expect("the head is complete");
        let trailers = match reader.read_body(&mut input)? {
            Some(BodyPart::Trailers(trailers)) => sorted_fields(&trailers),
            _ => String::new(),
        };
        Ok((sorted_fields(&head.parts.headers), trailers, reader.take_dropped()))
    };
    let head = "GET / HTTP/1.1\r\na_b: 1\r\na: 2\r\nc_d_: 3\r\n 4\r\nb: 5\r\n\r\n";
    assert_eq!(read(Allow, head), Err(TooManyHeaders));
    assert_eq!(read(RejectRequest, head), Err(UnexpectedUnderscore));
    let kept = |headers: &str| Ok((headers.to_owned(), String::new(), 2));
    assert_eq!(read(DropHeader, head), kept("a: 2\nb: 5\n"), "they do not count");
    let trailers = "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx_y: 1\r\nx-y: 2\r\n\r\n";
    assert_eq!(read(Allow, trailers).unwrap().1, "x-y: 2\nx_y: 1\n");
    assert_eq!(read(RejectRequest, trailers), Err(UnexpectedUnderscore));
    let (_, kept, dropped) = read(DropHeader, trailers).unwrap();
    assert_eq!((&*kept, dropped), ("x-y: 2\n", 1));
}

#[test]
fn more_headers_than_a_map_can_hold_are_too_many() {
    let limits = Limits::new(1 << 20, usize::MAX);
    let lines: String = (0..40_000).map(|number| format!("a{number}:\r\n")).collect();
    let head = request_head(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes(), options(), limits);
    assert_eq!(head.unwrap_err(), TooManyHeaders);
}

#[test]
fn connections_persist_by_version_and_connection_options() {
    let check = |version: &str, lines: &str, expected: bool| {
        let head = request_head(format!("GET / {version}\r\n{lines}\r\n").as_bytes(), options(), LIMITS);
        assert_eq!(head.unwrap().is_persistent, expected, "{version} {lines:?}");
    };
    check("HTTP/1.1", "", true);
    check("HTTP/1.1", "connection: keep-alive\r\n", true);
    check("HTTP/1.1", "connection: Close\r\n", false);
    check("HTTP/1.1", "connection: a , close,b\r\n", false);
    check("HTTP/1.1", "connection: a\r\nconnection: close\r\n", false);
    check("HTTP/1.1", "connection: \"close\"\r\n", true);
    check("HTTP/1.1", "connection: closed\r\n", true);
    check("HTTP/1.1", "proxy-connection: close\r\n", false);
    check("HTTP/1.0", "", false);
    check("HTTP/1.0", "connection: Keep-Alive\r\n", true);
    check("HTTP/1.0", "connection: keep-alive, close\r\n", false);
    check("HTTP/1.0", "proxy-connection: keep-alive\r\n", false);
    check("HTTP/2.0", "", false);
}

#[test]
fn upgrades_need_both_headers() {
    let check = |first: &str, lines: &str, expected: bool| {
        let head = request_head(format!("{first} HTTP/1.1\r\n{lines}\r\n").as_bytes(), options(), LIMITS);
        assert_eq!(head.unwrap().is_upgrade, expected, "{first} {lines:?}");
    };
    check("GET /", "", false);
    check("GET /", "upgrade: websocket\r\n", false);
    check("GET /", "connection: upgrade\r\nupgrade: H2C\r\n", false);
    check("GET /", "connection: upgrade\r\n", false);
    check("GET /", "upgrade: websocket\r\nconnection: a, Upgrade\r\n", true);
    check("CONNECT h:1", "", true);
}

#[test]
fn heads_are_returned_as_they_were_received() {
    let head = request_head(b"\r\nGET  / HTTP/1.1\nA:b\r\n\n", options(), LIMITS).unwrap();
    assert_eq!(head.bytes, "GET  / HTTP/1.1\nA:b\r\n\n");
}

#[test]
fn connect_has_no_body() {
    let check = |lines: &str, expected: Result<BodyLength, Error>| {
        let head = request_head(format!("CONNECT h:1 HTTP/1.1\r\n{lines}\r\n").as_bytes(), options(), LIMITS);
        let head = head.inspect(|head| assert!(head.parts.headers.is_empty() && head.parts.method == Method::CONNECT));
        assert_eq!(head.map(|head| head.body), expected, "{lines:?}");
    };
    check("", Ok(BodyLength::None));
    check("content-length: 0\r\n", Ok(BodyLength::None));
    check("content-length: 1\r\n", Err(BodyDisallowed));
    check("transfer-encoding: chunked\r\n", Err(BodyDisallowed));
    check("transfer-encoding: gzip\r\n", Err(UnsupportedTransferEncoding));
}
