//! Bodies: how their length is known, and chunks.

use super::{
    super::{
        BodyLength,
        Error::{
            self, ChunkedContentLength, HeadersTooLarge, InvalidCharacters, InvalidChunk, InvalidContentLength,
            InvalidHeader, TooManyHeaders, UnsupportedTransferEncoding,
        },
        Limits, MAX_CHUNK_LINE,
    },
    Event, LIMITS, options, read_requests, request_head,
};
use crate::model::Http1Options;

/// Checks the length of the body of requests with these header lines.
fn check_length(options: Http1Options, lines: &str, expected: Result<BodyLength, Error>) {
    let head = request_head(format!("POST / HTTP/1.1\r\n{lines}\r\n").as_bytes(), options, LIMITS);
    assert_eq!(head.map(|head| head.body), expected, "{lines:?}");
}

/// The data and trailers of a chunked body; `None` if it is not complete.
fn chunked(body: &str, options: Http1Options, limits: Limits) -> Result<Option<String>, Error> {
    let bytes = [b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", body.as_bytes()].concat();
    let transcript = read_requests([&*bytes], options, limits);
    let mut text = String::new();
    for event in &transcript.events[1..] {
        match event {
            Event::Data(data) => text.push_str(str::from_utf8(data).unwrap()),
            Event::Trailers(trailers) => text.push_str(&format!("|{trailers}")),
            Event::End => return Ok(Some(text)),
            Event::Head(head) => panic!("an unexpected head: {head}"),
        }
    }
    transcript.error.map_or(Ok(None), Err)
}

fn check_chunked(table: &[(&str, Result<Option<&str>, Error>)]) {
    for (body, expected) in table {
        let received = chunked(body, options(), LIMITS);
        let received = received.as_ref().map(Option::as_deref).map_err(|error| *error);
        assert_eq!(received, *expected, "{body:?}");
    }
}

#[test]
fn a_content_length_is_one_number() {
    for (value, expected) in [
        ("0", Ok(0)),
        ("3", Ok(3)),
        ("0003", Ok(3)),
        (" \t3 ", Ok(3)),
        ("18446744073709551615", Ok(u64::MAX)),
        ("18446744073709551616", Err(InvalidContentLength)),
        ("99999999999999999999999999", Err(InvalidContentLength)),
        ("", Err(InvalidContentLength)),
        ("+3", Err(InvalidContentLength)),
        ("-3", Err(InvalidContentLength)),
        ("0x3", Err(InvalidContentLength)),
        ("3, 3", Err(InvalidContentLength)),
        ("3.0", Err(InvalidContentLength)),
        ("1 3", Err(InvalidContentLength)),
        ("a", Err(InvalidContentLength)),
        ("٣", Err(InvalidContentLength)),
    ] {
        check_length(options(), &format!("content-length:{value}\r\n"), expected.map(BodyLength::Exact));
    }
    check_length(options(), "", Ok(BodyLength::None));
    check_length(options(), "content-length: 3\r\nContent-Length: 3\r\n", Err(InvalidContentLength));
    check_length(options(), "content-length: 3\r\ncontent-length: 4\r\n", Err(InvalidContentLength));
}

#[test]
fn the_only_transfer_coding_is_chunked() {
    for (value, expected) in [
        ("chunked", Ok(BodyLength::Chunked)),
        (" \tCHUNKed ", Ok(BodyLength::Chunked)),
        ("", Err(UnsupportedTransferEncoding)),
        ("identity", Err(UnsupportedTransferEncoding)),
        ("gzip", Err(UnsupportedTransferEncoding)),
        ("gzip, chunked", Err(UnsupportedTransferEncoding)),
        ("chunked, chunked", Err(UnsupportedTransferEncoding)),
        ("chunked,", Err(UnsupportedTransferEncoding)),
        ("chunked;a=b", Err(UnsupportedTransferEncoding)),
        ("\"chunked\"", Err(UnsupportedTransferEncoding)),
        ("chunkedd", Err(UnsupportedTransferEncoding)),
    ] {
        check_length(options(), &format!("transfer-encoding:{value}\r\n"), expected);
    }
    for (first, second) in [("chunked", "chunked"), ("", "chunked"), ("chunked", ""), ("gzip", "chunked")] {
        let lines = format!("transfer-encoding: {first}\r\ntransfer-encoding: {second}\r\n");
        check_length(options(), &lines, Err(UnsupportedTransferEncoding));
    }
}

#[test]
fn chunked_with_a_content_length_is_refused_unless_allowed() {
    let allowed = Http1Options { allow_chunked_length: true, ..options() };
    let both = "content-length: 3\r\ntransfer-encoding: chunked\r\n";
    check_length(options(), both, Err(ChunkedContentLength));
    check_length(allowed, both, Ok(BodyLength::Chunked));
    let head = request_head(format!("POST / HTTP/1.1\r\n{both}\r\n").as_bytes(), allowed, LIMITS).unwrap();
    assert!(!head.parts.headers.contains_key("content-length"));
    let other = "transfer-encoding: gzip\r\ncontent-length: 3\r\n";
    check_length(options(), other, Err(ChunkedContentLength));
    check_length(allowed, other, Err(ChunkedContentLength));
    let two = "content-length: 3\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n";
    check_length(allowed, two, Err(InvalidContentLength));
}

#[test]
fn chunks_are_data_behind_its_size() {
    check_chunked(&[
        ("0\r\n\r\n", Ok(Some(""))),
        ("3\r\nabc\r\n0\r\n\r\n", Ok(Some("abc"))),
        ("a\r\n0123456789\r\n1\r\n\n\r\n00\r\n\r\n", Ok(Some("0123456789\n"))),
        ("0000000000000000000003\r\nabc\r\n0\r\n\r\n", Ok(Some("abc"))),
        ("A\r\n0123456789\r\n0\r\n\r\n", Ok(Some("0123456789"))),
        ("ffffffffffffffff\r\nabc", Ok(None)),
        ("3\r\nab", Ok(None)),
        ("3\r\nabc\r", Ok(None)),
        ("3", Ok(None)),
        ("0\r\n", Ok(None)),
        ("0\r\na: b\r\n", Ok(None)),
        ("10000000000000000\r\n", Err(InvalidChunk)),
        ("\r\n", Err(InvalidChunk)),
        (" 3\r\nabc\r\n", Err(InvalidChunk)),
        (";a\r\n", Err(InvalidChunk)),
        ("+3\r\nabc\r\n", Err(InvalidChunk)),
        ("-3\r\nabc\r\n", Err(InvalidChunk)),
        ("0x3\r\nabc\r\n", Err(InvalidChunk)),
        ("3g\r\nabc\r\n", Err(InvalidChunk)),
        ("3,3\r\nabc\r\n", Err(InvalidChunk)),
        ("é\r\n", Err(InvalidChunk)),
        ("3\nabc\r\n", Err(InvalidChunk)),
        ("3\r\r\nabc\r\n", Err(InvalidChunk)),
        ("3\r\nabcd\r\n", Err(InvalidChunk)),
        ("3\r\nabc\n", Err(InvalidChunk)),
        ("3\r\nabc0\r\n\r\n", Err(InvalidChunk)),
        ("3\r\nabc\r0\r\n\r\n", Err(InvalidChunk)),
        ("3\r\nabc\r\n\r\n0\r\n\r\n", Err(InvalidChunk)),
    ]);
}

#[test]
fn chunk_extensions_are_ignored() {
    check_chunked(&[
        ("3;a=b\r\nabc\r\n0;c\r\n\r\n", Ok(Some("abc"))),
        ("3 \t;a=\"b;\\\"é\"\r\nabc\r\n0 \r\n\r\n", Ok(Some("abc"))),
        ("1 0\r\na\r\n0\r\n\r\n", Ok(Some("a"))),
        ("3;a\rb\r\nabc\r\n", Err(InvalidChunk)),
        ("3;a\nabc\r\n", Err(InvalidChunk)),
        ("3;\0\r\nabc\r\n", Err(InvalidChunk)),
        ("3;\u{7f}\r\nabc\r\n", Err(InvalidChunk)),
    ]);
    let longest = "a".repeat(MAX_CHUNK_LINE - 4);
    check_chunked(&[
        (&format!("3;{longest}\r\nabc\r\n0\r\n\r\n"), Ok(Some("abc"))),
        (&format!("3;{longest}"), Ok(None)),
        (&format!("3;{longest}\r"), Ok(None)),
        (&format!("3;{longest}a\r\nabc\r\n0\r\n\r\n"), Err(InvalidChunk)),
        (&format!("3;{longest}aaa"), Err(InvalidChunk)),
    ]);
}

#[test]
fn trailers_are_like_headers() {
    check_chunked(&[
        ("0\r\na: 1\r\nB:2\r\n\r\n", Ok(Some("|a: 1\nb: 2\n"))),
        ("0\r\na: 1\n 2\na: 3\n\n", Ok(Some("|a: 1 2\na: 3\n"))),
        ("0\r\n\n", Ok(Some(""))),
        ("0\r\nhost: h\r\na: 1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", Ok(Some("|a: 1\n"))),
        ("0\r\nhost: h\r\n\r\n", Ok(Some(""))),
        ("0\r\na: 1\r\n", Ok(None)),
        ("0\r\na\r\n\r\n", Err(InvalidHeader)),
        ("0\r\n a: 1\r\n\r\n", Err(InvalidHeader)),
        ("0\r\na: b\rc\r\n\r\n", Err(InvalidHeader)),
        ("0\r\na: \u{1}\r\n\r\n", Err(InvalidCharacters)),
        ("0\r\ncontent-length: a\r\n\r\n", Err(InvalidContentLength)),
    ]);
}

#[test]
fn trailers_are_dropped_unless_enabled() {
    let off = Http1Options { enable_trailers: false, ..options() };
    let few = Limits { max_headers: 1, ..LIMITS };
    let two = "0\r\na: 1\r\nb: 2\r\n\r\n";
    assert_eq!(chunked(two, off, LIMITS), Ok(Some(String::new())));
    assert_eq!(chunked("0\r\na\r\n\r\n", off, LIMITS), Err(InvalidHeader));
    assert_eq!(chunked(two, off, few), Ok(Some(String::new())));
    assert_eq!(chunked(two, options(), few), Err(TooManyHeaders));
}

#[test]
fn trailers_are_limited_in_bytes() {
    let limits = Limits::new(60, 10);
    let trailers = |length: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(length - 6));
    assert!(matches!(chunked(&trailers(60), options(), limits), Ok(Some(_))));
    assert_eq!(chunked(&trailers(61), options(), limits), Err(HeadersTooLarge));
    assert_eq!(chunked(&format!("0\r\n{}", "a".repeat(61)), options(), limits), Err(HeadersTooLarge));
}

#[test]
fn pipelined_requests_are_read_one_after_the_other() {
    let input = "POST /1 HTTP/1.1\r\ncontent-length: 2\r\n\r\nab\
                 POST /2 HTTP/1.1\r\n\r\n\r\n\
                 POST /3 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n\
                 GET /4 HTTP/1.0\r\ncontent-length: 1\r\n\r\ndX";
    let transcript = read_requests([input.as_bytes()], options(), LIMITS);
    let text: Vec<_> = transcript
        .events
        .iter()
        .map(|event| match event {
            Event::Head(head) => head.split(' ').nth(1).unwrap(),
            Event::Data(data) => str::from_utf8(data).unwrap(),
            Event::Trailers(trailers) => trailers,
            Event::End => ".",
        })
        .collect();
    assert_eq!(text.concat(), "/1ab./2./3c./4d.");
    assert_eq!(transcript.error, None);
}
