//! HTTP/1 requests: they are read equally at once and in pieces, within bounded memory; what is written for them is read as the
//! same requests; and httparse reads the same head and chunks.
//!
//! Only our reader accepts, as Envoy does: several blanks or tabs in the request line, versions other than 1.0 and 1.1 and none at
//! all, and lines that continue a header.
//!
//! Only httparse accepts: methods that are not registered (it knows none), targets that are not in a form of HTTP or not ASCII
//! (it does not parse them), any framing (it does not read it), and heads beyond the limits.
#![no_main]

use bytes::BytesMut;
use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use mesh_core::{
    http1::{BodyLength, BodyPart, Error, RequestHead, RequestReader, write_request},
    model::Http1Options,
};
use mesh_fuzz::http1::{
    Case, LARGE, Message, Reader, Transcript, check_chunked, check_equal, check_headers, end_to_end, is_folded, read,
    write_body,
};

struct Requests(RequestReader);

impl Reader for Requests {
    type Head = RequestHead;

    fn read_head(&mut self, input: &mut BytesMut) -> Result<Option<RequestHead>, Error> {
        self.0.read_head(input)
    }

    fn read_body(&mut self, input: &mut BytesMut) -> Result<Option<BodyPart>, Error> {
        self.0.read_body(input)
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(case) = Case::new(input) else { return };
    let reader = || Requests(RequestReader::new(case.options, case.limits));
    let whole = read(reader(), [case.bytes], case.limits);
    check_equal(&whole, &read(reader(), case.pieces(), case.limits));
    for message in whole.messages.iter().filter(|message| message.is_complete && message.head.refused.is_none()) {
        check_written(message);
    }
    compare_with_httparse(case.bytes, &whole);
});

fn check_written(message: &Message<RequestHead>) {
    let mut options = Http1Options::default();
    options.enable_trailers = true;
    options.allow_custom_methods = true;
    let (head, mut out) = (&message.head, Vec::new());
    let length = match head.body {
        BodyLength::None => Some(0),
        BodyLength::Exact(length) => Some(length),
        BodyLength::Chunked => None,
        BodyLength::UntilClose => unreachable!("a request does not last until close"),
    };
    write_body(write_request(&head.parts, length, options, &mut out), message, &mut out);
    let again = read(Requests(RequestReader::new(options, LARGE)), [&*out], LARGE);
    let [read] = &*again.messages else { panic!("{} is read as {again:?}", out.escape_ascii()) };
    assert!(read.is_complete && again.error.is_none());
    assert_eq!(read.head.parts.method, head.parts.method);
    let (mut expected, target) = (head.parts.headers.clone(), &head.parts.uri);
    if head.parts.method == Method::CONNECT {
        assert_eq!(read.head.parts.uri, *target);
    } else {
        let path = |uri: &Uri| (uri.path().to_owned(), uri.query().map(str::to_owned));
        assert_eq!(path(&read.head.parts.uri), path(target));
    }
    if let Some(authority) = target.authority() {
        expected.insert("host", authority.as_str().parse().expect("an authority is a header value"));
    }
    assert_eq!(end_to_end(&read.head.parts.headers), end_to_end(&expected));
    assert_eq!((&read.data, &read.trailers), (&message.data, &message.trailers));
}

fn compare_with_httparse(bytes: &[u8], transcript: &Transcript<RequestHead>) {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let mut headers = [httparse::EMPTY_HEADER; 512];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    let Some(message) = transcript.messages.first() else {
        let may_accept = !matches!(
            transcript.error,
            None | Some(Error::InvalidHeader | Error::InvalidCharacters | Error::InvalidVersion)
        );
        let is_accepted = matches!(parsed, Ok(httparse::Status::Complete(_)));
        assert!(may_accept || !is_accepted, "only httparse accepts it: {:?}", transcript.error);
        return;
    };
    let head = &message.head;
    let Ok(httparse::Status::Complete(length)) = parsed else {
        let is_more = headers_are_many(&parsed) || is_folded(&head.bytes) || has_odd_first_line(&head.bytes);
        assert!(is_more, "httparse does not accept it: {parsed:?}");
        return;
    };
    assert_eq!(length, head.bytes.len());
    assert_eq!(request.method, Some(head.parts.method.as_str()));
    if head.refused.is_none() {
        let target = request.path.expect("it is complete").parse::<Uri>().expect("a URI");
        assert_eq!(target, head.parts.uri);
    }
    check_headers(&head.parts.headers, request.headers, &["content-length"]);
    let rest = &bytes[length..];
    match head.body {
        BodyLength::Exact(length) if message.is_complete => assert_eq!(message.data, rest[..length as usize]),
        BodyLength::Chunked if message.is_complete => check_chunked(message, rest),
        _ => {}
    }
}

fn headers_are_many(parsed: &httparse::Result<usize>) -> bool {
    *parsed == Err(httparse::Error::TooManyHeaders)
}

/// Whether the first line is other than three words with one space between them, or of another version.
fn has_odd_first_line(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let is_usual = words.len() == 3 && !line.contains(&b'\t') && [&b"HTTP/1.0"[..], b"HTTP/1.1"].contains(&words[2]);
    !is_usual
}
