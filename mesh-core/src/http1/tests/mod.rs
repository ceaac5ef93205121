//! Tests of the codec: tables of single messages, random messages compared with an obvious reader, and round trips.

mod body;
mod head;
mod model;
mod random;
mod response;
mod round_trip;
mod start_line;
mod write;

use bytes::BytesMut;
use http::{HeaderMap, Method};

use super::{BodyPart, Error, Limits, RequestHead, RequestReader, ResponseHead, ResponseReader};
use crate::model::{HeaderKeyFormat, Http1Options};

const LIMITS: Limits = Limits::new(60 * 1024, 100);

fn options() -> Http1Options {
    Http1Options { enable_trailers: true, ..Http1Options::default() }
}

/// What is received on a connection, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Head(String),
    /// The data between two other events.
    Data(Vec<u8>),
    Trailers(String),
    End,
}

/// The events of a connection, and why there are no more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Transcript {
    events: Vec<Event>,
    /// `None`: all bytes that were received are understood, and more may follow.
    error: Option<Error>,
}

impl Transcript {
    fn push(&mut self, event: Event) {
        if let (Some(Event::Data(data)), Event::Data(more)) = (self.events.last_mut(), &event) {
            data.extend_from_slice(more);
        } else {
            self.events.push(event);
        }
    }

    fn push_part(&mut self, part: BodyPart) {
        self.push(match part {
            BodyPart::Data(data) => Event::Data(data.to_vec()),
            BodyPart::Trailers(trailers) => Event::Trailers(sorted_fields(&trailers)),
            BodyPart::End => Event::End,
        });
    }
}

/// Headers in order, one in a line.
fn fields(headers: &HeaderMap) -> String {
    headers.iter().map(|(name, value)| field(name.as_str(), value.as_bytes())).collect()
}

fn field(name: &str, value: &[u8]) -> String {
    format!("{name}: {}\n", value.escape_ascii())
}

/// Headers in order of their names, since removing one from a `HeaderMap` moves others.
fn sorted_fields(headers: &HeaderMap) -> String {
    let mut headers: Vec<_> = headers.iter().collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    headers.iter().map(|(name, value)| field(name.as_str(), value.as_bytes())).collect()
}

fn request_text(head: &RequestHead) -> String {
    let RequestHead { parts, body, is_persistent, is_upgrade, refused, bytes: _ } = head;
    let first = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
    let rest = format!("{body:?} persistent: {is_persistent} upgrade: {is_upgrade} refused: {refused:?}");
    format!("{first}\n{}{rest}", sorted_fields(&parts.headers))
}

fn response_text(head: &ResponseHead) -> String {
    let ResponseHead { parts, body, is_persistent, is_upgrade: _ } = head;
    let fields = sorted_fields(&parts.headers);
    format!("{:?} {}\n{fields}{body:?} persistent: {is_persistent}", parts.version, parts.status.as_u16())
}

/// Reads requests that arrive in `pieces`.
fn read_requests<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, options: Http1Options, limits: Limits) -> Transcript {
    let mut reader = RequestReader::new(options, limits);
    let mut transcript = Transcript { events: Vec::new(), error: None };
    let mut in_body = false;
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let progress = if in_body {
                reader.read_body(&mut input).map(|part| {
                    part.map(|part| {
                        in_body = part != BodyPart::End;
                        transcript.push_part(part);
                    })
                })
            } else {
                reader.read_head(&mut input).map(|head| {
                    head.map(|head| {
                        in_body = true;
                        transcript.push(Event::Head(request_text(&head)));
                    })
                })
            };
            match progress {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    transcript.error = Some(error);
                    return transcript;
                }
            }
        }
    }
    transcript
}

/// Reads the responses to requests with `methods`, which arrive in `pieces`, up to the end of the connection.
fn read_responses<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    methods: &[Method],
    options: Http1Options,
    limits: Limits,
) -> Transcript {
    let mut reader = ResponseReader::new(options, limits);
    let mut transcript = Transcript { events: Vec::new(), error: None };
    let mut methods = methods.iter();
    let Some(mut method) = methods.next() else { return transcript };
    let mut is_interim = false;
    let mut in_body = false;
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let progress = if in_body {
                reader.read_body(&mut input).map(|part| {
                    part.map(|part| {
                        in_body = part != BodyPart::End;
                        transcript.push_part(part);
                    })
                })
            } else {
                reader.read_head(&mut input, method).map(|head| {
                    head.map(|head| {
                        in_body = true;
                        is_interim = head.parts.status.is_informational();
                        transcript.push(Event::Head(response_text(&head)));
                    })
                })
            };
            match progress {
                Ok(Some(())) if !in_body && !is_interim => match methods.next() {
                    Some(next) => method = next,
                    None => return transcript,
                },
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    transcript.error = Some(error);
                    return transcript;
                }
            }
        }
    }
    if in_body {
        match reader.close() {
            Ok(()) => transcript.push(Event::End),
            Err(error) => transcript.error = Some(error),
        }
    }
    transcript
}

/// The head of the one request in `input`.
fn request_head(input: &[u8], options: Http1Options, limits: Limits) -> Result<RequestHead, Error> {
    let mut input = BytesMut::from(input);
    let head = RequestReader::new(options, limits).read_head(&mut input)?.expect("the head is complete");
    assert!(input.is_empty(), "{input:?} is left");
    Ok(head)
}

/// The head of the one response in `input`, to a request with `method`.
fn response_head(input: &[u8], method: &Method, options: Http1Options) -> Result<ResponseHead, Error> {
    let mut input = BytesMut::from(input);
    let head = ResponseReader::new(options, LIMITS).read_head(&mut input, method)?.expect("the head is complete");
    assert!(input.is_empty(), "{input:?} is left");
    Ok(head)
}

/// `options()` with names of headers in `format`.
fn spelled(format: HeaderKeyFormat) -> Http1Options {
    Http1Options { header_key_format: format, ..options() }
}
