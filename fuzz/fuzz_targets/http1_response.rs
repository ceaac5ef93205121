//! HTTP/1 responses: they are read equally at once and in pieces, within bounded memory; what is written for them is read as the
//! same responses; and httparse reads the same head and chunks.
//!
//! Only our reader accepts, as Envoy does: several blanks or tabs in the status line, versions other than 1.0 and 1.1, and lines
//! that continue a header.
//!
//! Only httparse accepts: empty lines in front of the status line, a status below 100, any framing (it does not read it), and heads
//! beyond the limits.
#![no_main]

use bytes::BytesMut;
use http::{Method, Version};
use libfuzzer_sys::fuzz_target;
use mesh_core::{
    http1::{BodyLength, BodyPart, Error, ResponseHead, ResponseReader, write_interim, write_response},
    model::Http1Options,
};
use mesh_fuzz::http1::{
    Case, LARGE, Message, Reader, Transcript, check_chunked, check_equal, check_headers, end_to_end, is_folded, read,
    write_body,
};

/// Reads the responses to requests with methods that a seed decides.
struct Responses {
    reader: ResponseReader,
    seed: u8,
}

#[derive(Debug)]
struct Head {
    head: ResponseHead,
    method: Method,
}

impl Reader for Responses {
    type Head = Head;

    fn read_head(&mut self, input: &mut BytesMut) -> Result<Option<Head>, Error> {
        let method = [Method::GET, Method::POST, Method::HEAD, Method::CONNECT][usize::from(self.seed % 4)].clone();
        let Some(head) = self.reader.read_head(input, &method)? else { return Ok(None) };
        if !head.parts.status.is_informational() {
            self.seed /= 4;
        }
        Ok(Some(Head { head, method }))
    }

    fn read_body(&mut self, input: &mut BytesMut) -> Result<Option<BodyPart>, Error> {
        self.reader.read_body(input)
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(case) = Case::new(input) else { return };
    let reader = || Responses { reader: ResponseReader::new(case.options, case.limits), seed: case.seed / 4 };
    let whole = read(reader(), [case.bytes], case.limits);
    check_equal(&whole, &read(reader(), case.pieces(), case.limits));
    for message in &whole.messages {
        check_written(message);
    }
    compare_with_httparse(case.bytes, &whole);
});

fn check_written(message: &Message<Head>) {
    let Head { head, method } = &message.head;
    let is_until_close = head.body == BodyLength::UntilClose;
    if !message.is_complete && !is_until_close {
        return;
    }
    let mut options = Http1Options::default();
    options.enable_trailers = true;
    let mut out = Vec::new();
    if head.parts.status.is_informational() {
        write_interim(head.parts.status, &head.parts.headers, options, &mut out);
    } else {
        let length = match head.body {
            BodyLength::None => Some(0),
            BodyLength::Exact(length) => Some(length),
            BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        let version = if is_until_close { head.parts.version } else { Version::HTTP_11 };
        let writer = write_response(&head.parts, length, (method, version), options, &mut out);
        write_body(writer, message, &mut out);
    }
    let seed = [Method::GET, Method::POST, Method::HEAD, Method::CONNECT].iter().position(|known| known == method);
    let seed = u8::try_from(seed.expect("it is one of them")).expect("it is small");
    let again = read(Responses { reader: ResponseReader::new(options, LARGE), seed }, [&*out], LARGE);
    let [read] = &*again.messages else { panic!("{} is read as {again:?}", out.escape_ascii()) };
    assert!(again.error.is_none() && (read.is_complete || read.head.head.body == BodyLength::UntilClose));
    assert_eq!(read.head.head.parts.status, head.parts.status);
    assert_eq!(end_to_end(&read.head.head.parts.headers), end_to_end(&head.parts.headers));
    assert_eq!((&read.data, &read.trailers), (&message.data, &message.trailers));
}

fn compare_with_httparse(bytes: &[u8], transcript: &Transcript<Head>) {
    let mut headers = [httparse::EMPTY_HEADER; 512];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes);
    let Some(message) = transcript.messages.first() else {
        let may_accept = !matches!(
            transcript.error,
            None | Some(Error::InvalidHeader | Error::InvalidCharacters | Error::InvalidVersion)
        );
        let is_accepted = matches!(parsed, Ok(httparse::Status::Complete(_)));
        assert!(may_accept || !is_accepted, "only httparse accepts it: {:?}", transcript.error);
        return;
    };
    let head = &message.head.head;
    let Ok(httparse::Status::Complete(length)) = parsed else {
        let is_more = parsed == Err(httparse::Error::TooManyHeaders) || is_folded(bytes) || has_odd_first_line(bytes);
        assert!(is_more, "httparse does not accept it: {parsed:?}");
        return;
    };
    assert_eq!(response.code, Some(head.parts.status.as_u16()));
    assert_eq!(response.version == Some(1), head.parts.version == Version::HTTP_11);
    check_headers(&head.parts.headers, response.headers, &["content-length"]);
    let rest = &bytes[length..];
    match head.body {
        BodyLength::Exact(length) if message.is_complete => assert_eq!(message.data, rest[..length as usize]),
        BodyLength::Chunked if message.is_complete => check_chunked(message, rest),
        BodyLength::UntilClose => assert_eq!(message.data, rest),
        _ => {}
    }
}

/// Whether the first line is other than a version and a status of three digits, with one space between them and before a reason.
fn has_odd_first_line(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.strip_prefix(b"HTTP/1.0 ").or_else(|| line.strip_prefix(b"HTTP/1.1 "));
    !rest.is_some_and(|rest| {
        let (status, reason) = rest.split_at(rest.len().min(3));
        status.iter().all(u8::is_ascii_digit) && (reason.is_empty() || reason.starts_with(b" "))
    })
}
