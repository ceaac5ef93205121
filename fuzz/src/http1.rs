//! HTTP/1 messages in pieces, shared by the targets of the codec.
//!
//! The first byte of an input chooses options, the second one where the rest is cut. Both may be printable, so seeds can be
//! written by hand.

use std::fmt::Debug;

use bytes::BytesMut;
use http::HeaderMap;
use mesh_core::{
    http1::{BodyPart, BodyWriter, Error, Limits, MAX_CHUNK_LINE},
    model::Http1Options,
    rng::{Rng, SplitMix64},
};

/// Limits that no input of the fuzzer reaches.
pub const LARGE: Limits = Limits::new(1 << 20, 10_000);

/// An input.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub options: Http1Options,
    pub limits: Limits,
    /// Decides where `bytes` is cut.
    pub seed: u8,
    pub bytes: &'a [u8],
}

impl<'a> Case<'a> {
    /// Splits an input; `None` if it is too short.
    pub fn new(input: &'a [u8]) -> Option<Self> {
        let [choice, seed, bytes @ ..] = input else { return None };
        let mut options = Http1Options::default();
        options.allow_absolute_url = choice & 1 == 0;
        options.allow_chunked_length = choice & 2 != 0;
        options.enable_trailers = choice & 4 == 0;
        options.allow_custom_methods = choice & 8 != 0;
        let limits = if choice & 64 == 0 { LARGE } else { Limits::new(200, 5) };
        Some(Self { options, limits, seed: *seed, bytes })
    }

    /// The bytes in pieces.
    pub fn pieces(&self) -> Vec<&'a [u8]> {
        let mut rng = SplitMix64::new(self.seed.into());
        let longest = [1, 3, 20, 300][usize::from(self.seed % 4)];
        let (mut pieces, mut rest) = (Vec::new(), self.bytes);
        while !rest.is_empty() {
            let length = rest.len().min(rng.below(longest) as usize + 1);
            let (piece, next) = rest.split_at(length);
            pieces.push(piece);
            rest = next;
        }
        pieces
    }
}

/// A reader of messages, each of which is a head, a body and an end.
pub trait Reader {
    type Head: Debug;

    fn read_head(&mut self, input: &mut BytesMut) -> Result<Option<Self::Head>, Error>;
    fn read_body(&mut self, input: &mut BytesMut) -> Result<Option<BodyPart>, Error>;
}

/// A message, perhaps without its end.
#[derive(Debug)]
pub struct Message<H> {
    pub head: H,
    pub data: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    pub is_complete: bool,
}

/// The messages of a connection.
#[derive(Debug)]
pub struct Transcript<H> {
    pub messages: Vec<Message<H>>,
    pub error: Option<Error>,
}

/// Reads messages that arrive in `pieces`.
pub fn read<'a, R: Reader>(
    mut reader: R,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: Limits,
) -> Transcript<R::Head> {
    let mut transcript = Transcript { messages: Vec::new(), error: None };
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match step(&mut reader, &mut input, &mut transcript.messages) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    transcript.error = Some(error);
                    return transcript;
                }
            }
        }
        assert!(input.len() <= limits.max_bytes.max(MAX_CHUNK_LINE), "the reader waits for more than its limits");
    }
    transcript
}

/// Reads the next part; false if there is none yet.
fn step<R: Reader>(reader: &mut R, input: &mut BytesMut, messages: &mut Vec<Message<R::Head>>) -> Result<bool, Error> {
    let Some(message) = messages.last_mut().filter(|message| !message.is_complete) else {
        let Some(head) = reader.read_head(input)? else { return Ok(false) };
        messages.push(Message { head, data: Vec::new(), trailers: None, is_complete: false });
        return Ok(true);
    };
    match reader.read_body(input)? {
        None => return Ok(false),
        Some(BodyPart::Data(data)) => {
            assert!(!data.is_empty() && message.trailers.is_none());
            message.data.extend_from_slice(&data);
        }
        Some(BodyPart::Trailers(trailers)) => assert!(message.trailers.replace(trailers).is_none()),
        Some(BodyPart::End) => message.is_complete = true,
    }
    Ok(true)
}

/// Checks that a connection is understood equally at once and in pieces. Of two errors in a head, the one of its first line
/// is found first if the rest arrives later.
pub fn check_equal<H: Debug>(whole: &Transcript<H>, split: &Transcript<H>) {
    assert_eq!(format!("{:?}", whole.messages), format!("{:?}", split.messages));
    let first_line_is_earlier = matches!(whole.error, Some(Error::HeadersTooLarge | Error::InvalidCharacters))
        && matches!(split.error, Some(Error::InvalidStartLine | Error::UnknownMethod));
    assert!(whole.error == split.error || first_line_is_earlier, "{:?} {:?}", whole.error, split.error);
}

/// Writes the body of a message in pieces.
pub fn write_body<H>(mut writer: BodyWriter, message: &Message<H>, out: &mut Vec<u8>) {
    for piece in message.data.chunks(100) {
        writer.begin_data(piece.len(), out).expect("the head declares the length of the data");
        out.extend_from_slice(piece);
        out.extend_from_slice(writer.after_data());
    }
    writer.end(message.trailers.as_ref(), out).expect("all data was written");
}

/// Headers in order of their names, without those of the framing, which a writer chooses.
pub fn end_to_end(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut headers: Vec<_> =
        headers.filter(|(name, _)| !["content-length", "transfer-encoding"].contains(name)).collect();
    headers.sort_by_key(|(name, _)| *name);
    headers
}

/// Checks that httparse has read the same headers.
pub fn check_headers(headers: &HeaderMap, expected: &[httparse::Header<'_>], except: &[&str]) {
    let is_compared = |name: &str| !except.contains(&name);
    let mut found: Vec<_> = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes())).collect();
    let mut expected: Vec<_> = expected.iter().map(|header| (header.name.to_ascii_lowercase(), header.value)).collect();
    found.retain(|(name, _)| is_compared(name));
    expected.retain(|(name, _)| is_compared(name));
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    expected.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(found, expected);
}

/// Whether a line of the head continues a header.
pub fn is_folded(head: &[u8]) -> bool {
    head.windows(2).any(|bytes| bytes[0] == b'\n' && matches!(bytes[1], b' ' | b'\t'))
}

/// Checks a chunked body that was read, and its trailers, with httparse. Not compared: sizes of more than 15 digits and extensions
/// without a semicolon, which httparse refuses, and trailers that are continued.
pub fn check_chunked<H>(message: &Message<H>, mut rest: &[u8]) {
    let mut data = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((length, size))) = httparse::parse_chunk_size(rest) else { return };
        rest = &rest[length..];
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).expect("the chunk is complete");
        data.extend_from_slice(&rest[..size]);
        rest = rest[size..].strip_prefix(b"\r\n").expect("a line end follows data");
    }
    assert_eq!(message.data, data);
    let mut trailers = [httparse::EMPTY_HEADER; 512];
    if let Some(read) = &message.trailers
        && let Ok(httparse::Status::Complete((_, trailers))) = httparse::parse_headers(rest, &mut trailers)
    {
        check_headers(read, trailers, &["content-length", "transfer-encoding", "host"]);
    }
}
