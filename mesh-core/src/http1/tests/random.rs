//! Random messages, whole and damaged, in random pieces: the readers read what the obvious reader reads.

use std::collections::HashMap;

use fastrand::Rng;
use http::Method;

use super::{
    super::{Error, Limits},
    Transcript, model, read_requests, read_responses,
};
use crate::model::Http1Options;

const SEEDS: u64 = 30_000;

#[test]
fn requests_are_read_as_by_the_obvious_reader() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let (options, limits) = (options(&mut rng), limits(&mut rng));
        let mut bytes: Vec<u8> = (0..rng.u32(1..4)).flat_map(|_| request(&mut rng)).collect();
        damage(&mut bytes, &mut rng);
        let expected = model::requests(&bytes, options, limits);
        for pieces in cuts(&bytes, &mut rng) {
            let transcript = read_requests(pieces, options, limits);
            seen.check(&transcript, &expected, seed, &bytes);
        }
    }
    seen.check_variety(&[
        Error::HeadersTooLarge,
        Error::TooManyHeaders,
        Error::InvalidCharacters,
        Error::InvalidStartLine,
        Error::InvalidVersion,
        Error::UnknownMethod,
        Error::InvalidTarget,
        Error::InvalidHeader,
        Error::InvalidContentLength,
        Error::UnsupportedTransferEncoding,
        Error::ChunkedContentLength,
        Error::BodyDisallowed,
        Error::InvalidChunk,
    ]);
}

#[test]
fn responses_are_read_as_by_the_obvious_reader() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let (options, limits) = (options(&mut rng), limits(&mut rng));
        let methods: Vec<_> = (0..rng.u32(1..4))
            .map(|_| pick(&mut rng, &[Method::GET, Method::POST, Method::HEAD, Method::CONNECT]))
            .collect();
        let mut bytes: Vec<u8> = methods.iter().flat_map(|method| response(&mut rng, method)).collect();
        damage(&mut bytes, &mut rng);
        let expected = model::responses(&bytes, &methods, options, limits);
        for pieces in cuts(&bytes, &mut rng) {
            let transcript = read_responses(pieces, &methods, options, limits);
            seen.check(&transcript, &expected, seed, &bytes);
        }
    }
    seen.check_variety(&[
        Error::HeadersTooLarge,
        Error::TooManyHeaders,
        Error::InvalidStartLine,
        Error::InvalidVersion,
        Error::InvalidHeader,
        Error::InvalidContentLength,
        Error::UnsupportedTransferEncoding,
        Error::TransferEncodingNotAllowed,
        Error::ChunkedContentLength,
        Error::BodyDisallowed,
        Error::InvalidChunk,
        Error::Incomplete,
    ]);
}

/// How many connections had which outcome.
#[derive(Default)]
struct Seen(HashMap<String, usize>);

impl Seen {
    fn check(&mut self, transcript: &Transcript, expected: &model::Expected, seed: u64, bytes: &[u8]) {
        let bytes = bytes.escape_ascii();
        assert_eq!(transcript.events, expected.events, "seed {seed}: {bytes}");
        let is_expected = match transcript.error {
            None => expected.errors.is_empty(),
            Some(error) => expected.errors.contains(&error),
        };
        assert!(is_expected, "seed {seed}: {:?} instead of {:?}: {bytes}", transcript.error, expected.errors);
        *self.0.entry(format!("{:?}", transcript.error)).or_default() += 1;
    }

    /// The messages are neither all accepted nor all refused for the same reason.
    fn check_variety(&self, errors: &[Error]) {
        let outcomes = errors.iter().map(|error| Some(*error)).chain([None]);
        let rare: Vec<_> =
            outcomes.filter(|end| self.0.get(&format!("{end:?}")).is_none_or(|count| *count < 20)).collect();
        assert!(rare.is_empty(), "hardly any message ends with {rare:?}: {:?}", self.0);
    }
}

fn options(rng: &mut Rng) -> Http1Options {
    Http1Options {
        allow_absolute_url: rng.bool(),
        allow_chunked_length: rng.bool(),
        enable_trailers: rng.bool(),
        allow_custom_methods: rng.bool(),
        ..Http1Options::default()
    }
}

fn limits(rng: &mut Rng) -> Limits {
    if rng.u8(..4) > 0 {
        return Limits::new(60 * 1024, 100);
    }
    Limits::new(rng.usize(20..300), rng.usize(1..8))
}

/// The ways in which `bytes` arrive: at once, one by one, and in pieces that differ.
fn cuts<'a>(bytes: &'a [u8], rng: &mut Rng) -> [Vec<&'a [u8]>; 3] {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(rng.usize(1..=rest.len().min(40)));
        pieces.push(piece);
        rest = next;
    }
    [vec![bytes], bytes.chunks(1).collect(), pieces]
}

/// Damages some messages.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.u32(0..3) * rng.u32(0..2) {
        let at = rng.usize(..bytes.len());
        match rng.u8(..5) {
            0 => bytes[at] = pick(rng, b"\r\n \t:;0fF\0\x7f\x80#*/,\"+"),
            1 => bytes.insert(at, pick(rng, b"\r\n \t:;0fF\0\x7f\x80#*/,\"+")),
            2 => bytes.truncate(at.max(1)),
            3 => {
                let again = bytes[at..(at + 10).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            _ if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {}
        }
    }
}

fn request(rng: &mut Rng) -> Vec<u8> {
    let method = often(rng, &["GET", "POST", "HEAD", "OPTIONS"], &["CONNECT", "PURGE", "BREW", "g@t"]);
    let target = match method {
        "CONNECT" => often(rng, &["h:443", "[::1]:1"], &["h", "/", "u@h:1"]),
        _ => {
            often(rng, &["/", "/a?b=%c", "/\"{}\\|^"], &["http://h:1/a?b", "*", "h:1", "/#a", "/<", "http://u@h", "é"])
        }
    };
    let version = often(rng, &["HTTP/1.1"], &["HTTP/1.0", "HTTP/2.0", "", "http/1.1", "HTTP/1.1 x"]);
    let between = often(rng, &[" "], &["  ", "\t", "\r"]);
    let mut out = often(rng, &[""], &["\r\n", "\n\r\n", " "]).as_bytes().to_vec();
    let lines = format!("{method}{between}{target}{between}{version}{}", line_end(rng));
    out.extend(lines.bytes());
    framed(rng, &mut out);
    out
}

fn response(rng: &mut Rng, method: &Method) -> Vec<u8> {
    let mut out = Vec::new();
    while rng.u8(..8) == 0 {
        let status = pick(rng, &["100", "102", "103", "101"]);
        out.extend(format!("HTTP/1.1 {status} X{}", line_end(rng)).bytes());
        fields(rng, &mut out);
        out.extend(line_end(rng).bytes());
    }
    let version = often(rng, &["HTTP/1.1"], &["HTTP/1.0", "HTTP/1.2", "HTTP/1"]);
    let status = often(rng, &["200", "404", "304 Not Modified"], &["204", "", "20", "1000", "200X", "999"]);
    let between = often(rng, &[" "], &["  ", "\t"]);
    out.extend(format!("{version}{between}{status}{}", line_end(rng)).bytes());
    if *method == Method::HEAD || rng.u8(..10) == 0 {
        fields(rng, &mut out);
        out.extend(pick(rng, &["", "content-length: 3\r\n", "transfer-encoding: chunked\r\n"]).bytes());
        out.extend(line_end(rng).bytes());
    } else {
        framed(rng, &mut out);
    }
    out
}

/// Headers, the framing headers among them, and a body.
fn framed(rng: &mut Rng, out: &mut Vec<u8>) {
    fields(rng, out);
    let data: Vec<u8> = (0..rng.usize(..60)).map(|_| rng.u8(..)).collect();
    let kind = rng.u8(..20);
    if matches!(kind, 3..=9 | 18) {
        out.extend(format!("Content-Length:{}{}", data.len(), line_end(rng)).bytes());
    }
    if matches!(kind, 10..) {
        out.extend(format!("transfer-encoding: Chunked{}", line_end(rng)).bytes());
    }
    if kind == 19 {
        let odd = ["content-length: +3\r\n", "transfer-encoding: gzip\r\n", "content-length:3\r\ncontent-length:3\r\n"];
        out.extend(pick(rng, &odd).bytes());
    }
    fields(rng, out);
    out.extend(line_end(rng).bytes());
    match kind {
        3..=9 => out.extend(data),
        10.. => chunks(rng, &data, out),
        _ => {}
    }
}

fn chunks(rng: &mut Rng, mut data: &[u8], out: &mut Vec<u8>) {
    while !data.is_empty() {
        let (chunk, rest) = data.split_at(rng.usize(1..=data.len()));
        data = rest;
        let zeros = often(rng, &[""], &["0", "0000000000000000000"]);
        let size = if rng.bool() { format!("{:x}", chunk.len()) } else { format!("{:X}", chunk.len()) };
        let extension = extension(rng);
        out.extend(format!("{zeros}{size}{extension}\r\n").bytes());
        out.extend_from_slice(chunk);
        out.extend(often(rng, &["\r\n"], &["\n", "", "x\r\n"]).bytes());
    }
    out.extend(format!("0{}\r\n", extension(rng)).bytes());
    if rng.bool() {
        fields(rng, out);
    }
    out.extend(line_end(rng).bytes());
}

fn extension(rng: &mut Rng) -> String {
    let long = 4060..4120;
    match rng.u8(..60) {
        0..=5 => pick(rng, &[";a", " ", "\t; a=\"b\"", ";\u{e9}"]).into(),
        6 => ";".repeat(rng.usize(long)),
        7 => pick(rng, &[";\u{1}", ";\r", "x"]).into(),
        _ => String::new(),
    }
}

fn fields(rng: &mut Rng, out: &mut Vec<u8>) {
    for _ in 0..rng.u32(..4) {
        let field = often(
            rng,
            &["host: h", "A-b:  1 \t", "accept:a,b", "a:", "Cookie: \u{e9}=\"\"", "connection: keep-alive", "A: 2"],
            &[
                "connection: x, Close",
                "proxy-connection: close",
                "upgrade: a",
                "Connection: upgrade",
                "fold: 1\r\n  2",
                "fold:\n \n\t2",
                "content-length: 0",
                "no colon",
                "a : 1",
                ": 1",
                "a: b\rc",
                "a: \u{7f}",
                "host: again",
            ],
        );
        out.extend(field.bytes());
        out.extend(line_end(rng).bytes());
    }
}

fn line_end(rng: &mut Rng) -> &'static str {
    often(rng, &["\r\n"], &["\n"])
}

/// Most often one of `usual`.
fn often<'a>(rng: &mut Rng, usual: &[&'a str], odd: &[&'a str]) -> &'a str {
    let choices = if rng.u8(..12) == 0 { odd } else { usual };
    pick(rng, choices)
}

fn pick<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())].clone()
}
