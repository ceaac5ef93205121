//! Responses: which are accepted, and as what.

use http::Method;

use super::{
    super::{
        BodyLength,
        Error::{
            self, BodyDisallowed, ChunkedContentLength, HeadersTooLarge, Incomplete, InvalidCharacters,
            InvalidContentLength, InvalidHeader, InvalidStartLine, InvalidVersion, TransferEncodingNotAllowed,
            UnsupportedTransferEncoding,
        },
        Limits, ResponseReader,
    },
    Event, LIMITS, fields, options, read_responses, response_head,
};
use crate::model::Http1Options;

/// Checks version and status of responses with these status lines.
fn check_line(line: &str, expected: Result<&str, Error>) {
    let head = response_head(format!("{line}\r\n\r\n").as_bytes(), &Method::GET, options());
    let head = head.map(|head| format!("{:?} {}", head.parts.version, head.parts.status.as_u16()));
    assert_eq!(head.as_deref().map_err(|error| *error), expected, "{line:?}");
}

/// Checks the length of the body of the response to `method`.
fn check_length(method: &Method, status: u16, lines: &str, expected: Result<BodyLength, Error>) {
    let head = response_head(format!("HTTP/1.1 {status} X\r\n{lines}\r\n").as_bytes(), method, options());
    assert_eq!(head.map(|head| head.body), expected, "{method} {status} {lines:?}");
}

#[test]
fn status_lines_are_a_version_and_a_code() {
    check_line("HTTP/1.1 200 OK", Ok("HTTP/1.1 200"));
    check_line("HTTP/1.1 200", Ok("HTTP/1.1 200"));
    check_line("HTTP/1.1 200 ", Ok("HTTP/1.1 200"));
    check_line("HTTP/1.1 404 \u{e9} and  more", Ok("HTTP/1.1 404"));
    check_line("HTTP/1.1  200\tOK", Ok("HTTP/1.1 200"));
    check_line("HTTP/1.1 999 X", Ok("HTTP/1.1 999"));
    check_line("HTTP/1.0 200 OK", Ok("HTTP/1.0 200"));
    check_line("HTTP/2.0 200 OK", Ok("HTTP/1.0 200"));
    check_line("HTTP/1.1 200 a\tb", Ok("HTTP/1.1 200"));
    check_line("HTTP/1.1 200 a\0", Err(InvalidCharacters));
    check_line("HTTP/1.1 200 a\rb", Err(InvalidCharacters));
    check_line("HTTP/1.1", Err(InvalidStartLine));
    check_line("HTTP/1.1 ", Err(InvalidStartLine));
    check_line("HTTP/1.1 099", Err(InvalidStartLine));
    check_line("HTTP/1.1 20", Err(InvalidStartLine));
    check_line("HTTP/1.1 1000", Err(InvalidStartLine));
    check_line("HTTP/1.1 +200", Err(InvalidStartLine));
    check_line("HTTP/1.1 2e2", Err(InvalidStartLine));
    check_line("HTTP/1.1 200OK", Err(InvalidStartLine));
    check_line("HTTP/1 200 OK", Err(InvalidVersion));
    check_line("HTTP/1.11 200 OK", Err(InvalidVersion));
    check_line("http/1.1 200 OK", Err(InvalidStartLine));
    check_line(" HTTP/1.1 200 OK", Err(InvalidStartLine));
    check_line("\r\nHTTP/1.1 200 OK", Err(InvalidStartLine));
}

#[test]
fn responses_are_refused_at_their_first_bytes_if_those_are_wrong() {
    let read = |input: &str| ResponseReader::new(options(), LIMITS).read_head(&mut input.into(), &Method::GET);
    for input in ["", "H", "HTTP/", "HTTP/1.1 200 OK\r\n"] {
        assert!(read(input).unwrap().is_none(), "{input:?}");
    }
    for input in ["h", "HTTQ", "SSH-2.0-x", "\r", "\u{15}\u{3}"] {
        assert_eq!(read(input).unwrap_err(), InvalidStartLine, "{input:?}");
    }
}

#[test]
fn headers_of_responses_are_those_of_requests() {
    let headers = |lines: &str| {
        let head = response_head(format!("HTTP/1.1 200 OK\n{lines}\n").as_bytes(), &Method::GET, options());
        head.map(|head| fields(&head.parts.headers))
    };
    assert_eq!(headers("A: 1\n 2\nset-cookie:b\nset-cookie:c\n").unwrap(), "a: 1 2\nset-cookie: b\nset-cookie: c\n");
    assert_eq!(headers("a : 1\n"), Err(InvalidHeader));
    assert_eq!(headers("a: 1\r2\n"), Err(InvalidHeader));
}

#[test]
fn bodies_of_responses_have_a_length_or_last_until_close() {
    for method in [Method::GET, Method::POST, Method::OPTIONS] {
        for status in [200, 205, 299, 301, 404, 500, 999] {
            check_length(&method, status, "", Ok(BodyLength::UntilClose));
            check_length(&method, status, "content-length: 3\r\n", Ok(BodyLength::Exact(3)));
            check_length(&method, status, "content-length: 0\r\n", Ok(BodyLength::Exact(0)));
            check_length(&method, status, "transfer-encoding: Chunked\r\n", Ok(BodyLength::Chunked));
        }
    }
}

#[test]
fn some_responses_have_no_body_whatever_their_headers() {
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 304), (Method::CONNECT, 200)] {
        check_length(&method, status, "", Ok(BodyLength::None));
        check_length(&method, status, "content-length: 3\r\n", Ok(BodyLength::None));
        check_length(&method, status, "transfer-encoding: chunked\r\n", Ok(BodyLength::None));
        check_length(&method, status, "transfer-encoding: gzip\r\n", Err(UnsupportedTransferEncoding));
    }
    check_length(&Method::CONNECT, 403, "content-length: 3\r\n", Ok(BodyLength::Exact(3)));
    for (method, status) in [(Method::GET, 100), (Method::GET, 103), (Method::GET, 101), (Method::HEAD, 204)] {
        check_length(&method, status, "", Ok(BodyLength::None));
        check_length(&method, status, "content-length: 0\r\n", Ok(BodyLength::None));
        check_length(&method, status, "content-length: 3\r\n", Err(BodyDisallowed));
        check_length(&method, status, "transfer-encoding: chunked\r\n", Err(TransferEncodingNotAllowed));
    }
}

#[test]
fn responses_whose_length_is_not_clear_are_refused() {
    for method in [Method::GET, Method::HEAD] {
        check_length(&method, 200, "content-length: 3\r\ncontent-length: 3\r\n", Err(InvalidContentLength));
        check_length(&method, 200, "content-length: 3, 3\r\n", Err(InvalidContentLength));
        check_length(&method, 200, "transfer-encoding: gzip, chunked\r\n", Err(UnsupportedTransferEncoding));
        let both = "transfer-encoding: chunked\r\ncontent-length: 3\r\n";
        check_length(&method, 200, both, Err(ChunkedContentLength));
    }
    let allowed = Http1Options { allow_chunked_length: true, ..options() };
    let input = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n";
    let head = response_head(input, &Method::GET, allowed).unwrap();
    assert_eq!((head.body, fields(&head.parts.headers)), (BodyLength::Chunked, "transfer-encoding: chunked\n".into()));
}

#[test]
fn connections_persist_by_version_connection_options_and_body() {
    let check = |version: &str, lines: &str, expected: bool| {
        let head = response_head(format!("{version} 200 OK\r\n{lines}\r\n").as_bytes(), &Method::GET, options());
        assert_eq!(head.unwrap().is_persistent, expected, "{version} {lines:?}");
    };
    check("HTTP/1.1", "content-length: 1\r\n", true);
    check("HTTP/1.1", "transfer-encoding: chunked\r\n", true);
    check("HTTP/1.1", "", false);
    check("HTTP/1.1", "content-length: 1\r\nconnection: a, close\r\n", false);
    check("HTTP/1.1", "content-length: 1\r\nproxy-connection: close\r\n", false);
    check("HTTP/1.0", "content-length: 1\r\n", false);
    check("HTTP/1.0", "content-length: 1\r\nconnection: keep-alive\r\n", true);
    check("HTTP/1.0", "content-length: 1\r\nproxy-connection: keep-alive\r\n", false);
    check("HTTP/1.0", "connection: keep-alive\r\n", false);
}

#[test]
fn every_head_is_limited_for_itself() {
    let limits = Limits::new(30, 10);
    let interim = "HTTP/1.1 103 X\r\na: 1\r\n\r\n";
    let read = |input: &str| {
        let transcript = read_responses([input.as_bytes()], &[Method::GET], options(), limits);
        (transcript.events.len(), transcript.error)
    };
    assert_eq!(read(&format!("{interim}{interim}HTTP/1.1 200 OK\r\ncon:12345\r\n\r\n")), (6, None));
    assert_eq!(read(&format!("{interim}HTTP/1.1 200 OK\r\ncon:123456\r\n\r\n")), (2, Some(HeadersTooLarge)));
}

#[test]
fn interim_responses_precede_the_final_one() {
    let input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody";
    let pieces = input.as_bytes().chunks(1);
    let transcript = read_responses(pieces, &[Method::GET], options(), LIMITS);
    let expected = [
        Event::Head("HTTP/1.1 100\nNone persistent: true".into()),
        Event::End,
        Event::Head("HTTP/1.1 103\nlink: a\nNone persistent: true".into()),
        Event::End,
        Event::Head("HTTP/1.1 200\nUntilClose persistent: false".into()),
        Event::Data(b"body".into()),
        Event::End,
    ];
    assert_eq!((&*transcript.events, transcript.error), (&expected[..], None));
}

#[test]
fn a_connection_may_only_end_after_a_body_or_within_one_until_close() {
    let check = |rest: &str, expected: Result<(), Error>| {
        let input = format!("HTTP/1.1 200 OK\r\n{rest}");
        let transcript = read_responses([input.as_bytes()], &[Method::GET], options(), LIMITS);
        assert_eq!(transcript.error.map_or(Ok(()), Err), expected, "{rest:?}");
        assert_eq!(transcript.events.last() == Some(&Event::End), expected.is_ok(), "{rest:?}");
    };
    check("\r\n", Ok(()));
    check("\r\nabc", Ok(()));
    check("content-length: 0\r\n\r\n", Ok(()));
    check("content-length: 3\r\n\r\nabc", Ok(()));
    check("content-length: 3\r\n\r\nab", Err(Incomplete));
    check("transfer-encoding: chunked\r\n\r\n", Err(Incomplete));
    check("transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", Err(Incomplete));
    check("transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", Ok(()));
}
