//! What is written is read again as the same message.

use std::collections::HashMap;

use bytes::BytesMut;
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use super::{
    super::{
        BodyPart, BodyWriter, RequestHead, RequestReader, ResponseHead, ResponseReader, write_request, write_response,
    },
    LIMITS, sorted_fields, spelled,
};
use crate::model::{HeaderKeyFormat, Http1Options};

const SEEDS: u64 = 10_000;

/// A body and its trailers.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
}

#[test]
fn requests_are_read_as_they_were_written() {
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS, Method::PATCH, Method::DELETE];
    let targets = ["/", "/a?b=c", "http://h:1/a", "http://[::1]", "/?"];
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let options = options(&mut rng);
        let mut parts = Request::new(()).into_parts().0;
        parts.method = pick(&mut rng, &methods);
        parts.uri = Uri::from_static(pick(&mut rng, &targets));
        parts.headers = headers(&mut rng);
        let content = content(&mut rng);
        let mut out = Vec::new();
        let writer = write_request(&parts, length(&content, &mut rng), options, &mut out);
        write_content(writer, &content, &mut rng, &mut out);
        let (head, received) = read_request(&out, options);
        let context = format!("seed {seed}: {}", out.escape_ascii());
        assert_eq!(received, content, "{context}");
        assert_eq!((&head.parts.method, head.parts.version), (&parts.method, Version::HTTP_11), "{context}");
        assert_eq!(head.parts.uri.path_and_query(), parts.uri.path_and_query(), "{context}");
        let mut expected = parts.headers.clone();
        if let Some(authority) = parts.uri.authority() {
            expected.insert("host", HeaderValue::from_str(authority.as_str()).unwrap());
        }
        assert_eq!(text(&head.parts.headers), text(&expected), "{context}");

        let mut again = Vec::new();
        let writer = write_request(&head.parts, length(&content, &mut rng), options, &mut again);
        write_content(writer, &content, &mut rng, &mut again);
        let (reread, received) = read_request(&again, options);
        assert_eq!(received, content, "{context}");
        assert_eq!(text(&reread.parts.headers), text(&expected), "{context}");
        assert_eq!(names(&again), names(&out), "{context}");
    }
}

#[test]
fn responses_are_read_as_they_were_written() {
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::CONNECT];
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let options = options(&mut rng);
        let (method, version) = (pick(&mut rng, &methods), pick(&mut rng, &[Version::HTTP_10, Version::HTTP_11]));
        let mut parts = Response::new(()).into_parts().0;
        parts.status = StatusCode::from_u16(pick(&mut rng, &[200, 204, 304, 404, 599, 999])).unwrap();
        parts.headers = headers(&mut rng);
        let has_no_body = matches!(parts.status.as_u16(), 204 | 304)
            || method == Method::HEAD
            || (method == Method::CONNECT && parts.status.is_success());
        let mut content = if has_no_body { Content::default() } else { content(&mut rng) };
        let mut out = Vec::new();
        let writer = write_response(&parts, length(&content, &mut rng), (&method, version), options, &mut out);
        write_content(writer, &content, &mut rng, &mut out);
        if version == Version::HTTP_10 {
            content.trailers = None;
        }
        let (head, received) = read_response(&out, &method, options);
        let context = format!("seed {seed} {method}: {}", out.escape_ascii());
        assert_eq!(received, content, "{context}");
        assert_eq!((head.parts.status, head.parts.version), (parts.status, version), "{context}");
        assert_eq!(text(&head.parts.headers), text(&parts.headers), "{context}");

        let mut again = Vec::new();
        let length = length(&content, &mut rng);
        let writer = write_response(&head.parts, length, (&method, version), options, &mut again);
        write_content(writer, &content, &mut rng, &mut again);
        let (reread, received) = read_response(&again, &method, options);
        assert_eq!(received, content, "{context}");
        assert_eq!(text(&reread.parts.headers), text(&parts.headers), "{context}");
        assert_eq!(names(&again), names(&out), "{context}");
    }
}

/// Writes a body in pieces.
fn write_content(mut writer: BodyWriter, content: &Content, rng: &mut Rng, out: &mut Vec<u8>) {
    let mut rest = &*content.data;
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(rng.usize(1..=rest.len()));
        rest = next;
        writer.begin_data(piece.len(), out).unwrap();
        out.extend_from_slice(piece);
        out.extend_from_slice(writer.after_data());
    }
    writer.end(content.trailers.as_ref(), out).unwrap();
}

fn read_request(bytes: &[u8], options: Http1Options) -> (RequestHead, Content) {
    let mut input = BytesMut::from(bytes);
    let mut reader = RequestReader::new(options, LIMITS);
    let head = reader.read_head(&mut input).unwrap().unwrap();
    let mut content = Content::default();
    while let Some(part) = reader.read_body(&mut input).unwrap()
        && content.add(part)
    {}
    assert!(reader.is_body_complete() && input.is_empty(), "{input:?} is left of {}", bytes.escape_ascii());
    (head, content)
}

fn read_response(bytes: &[u8], method: &Method, options: Http1Options) -> (ResponseHead, Content) {
    let mut input = BytesMut::from(bytes);
    let mut reader = ResponseReader::new(options, LIMITS);
    let head = reader.read_head(&mut input, method).unwrap().unwrap();
    let mut content = Content::default();
    while let Some(part) = reader.read_body(&mut input).unwrap()
        && content.add(part)
    {}
    assert_eq!(reader.close(), Ok(()), "{}", bytes.escape_ascii());
    assert!(input.is_empty(), "{input:?} is left of {}", bytes.escape_ascii());
    (head, content)
}

impl Content {
    /// Adds a part; false at the end.
    fn add(&mut self, part: BodyPart) -> bool {
        match part {
            BodyPart::Data(data) => self.data.extend_from_slice(&data),
            BodyPart::Trailers(trailers) => self.trailers = Some(trailers),
            BodyPart::End => return false,
        }
        true
    }
}

/// The headers without those of the framing, which the writer chooses.
fn text(headers: &HeaderMap) -> String {
    let mut headers = headers.clone();
    headers.remove("content-length");
    headers.remove("transfer-encoding");
    sorted_fields(&headers)
}

/// How often each spelling of a header name occurs in the head at the front of `bytes`, without those of the framing.
fn names(bytes: &[u8]) -> HashMap<String, usize> {
    let mut names = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n').skip(1).take_while(|line| *line != b"\r") {
        let name = String::from_utf8(line.split(|byte| *byte == b':').next().unwrap().to_vec()).unwrap();
        if !["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase()) {
            *names.entry(name).or_default() += 1;
        }
    }
    names
}

fn options(rng: &mut Rng) -> Http1Options {
    spelled(pick(rng, &[HeaderKeyFormat::LowerCase, HeaderKeyFormat::ProperCaseWords, HeaderKeyFormat::PreserveCase]))
}

fn content(rng: &mut Rng) -> Content {
    let data = (0..rng.usize(..3) * rng.usize(..300)).map(|_| rng.u8(..)).collect();
    let trailers = (rng.u8(..3) == 0).then(|| headers(rng)).filter(|trailers| !trailers.is_empty());
    Content { data, trailers }
}

/// The length of a body, if it is known.
fn length(content: &Content, rng: &mut Rng) -> Option<u64> {
    (content.trailers.is_none() && rng.bool()).then_some(content.data.len() as u64)
}

fn headers(rng: &mut Rng) -> HeaderMap {
    let names =
        ["a", "x-long-name.with_all", "accept", "set-cookie", "cookie", "etag", "te"].map(HeaderName::from_static);
    let value = |rng: &mut Rng| {
        let value: Vec<u8> = (0..rng.usize(..8)).map(|_| pick(rng, b"aB9 \t\",:;\\\x80\xff")).collect();
        HeaderValue::from_bytes(value.trim_ascii()).unwrap()
    };
    (0..rng.usize(..6)).map(|_| (pick(rng, &names), value(rng))).collect()
}

fn pick<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())].clone()
}
