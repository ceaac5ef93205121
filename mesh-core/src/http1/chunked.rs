//! The chunked transfer coding (RFC 9112 section 7.1).

use bytes::{Buf as _, BytesMut};
use memchr::memchr;

use super::{
    BodyPart, Error, Limits,
    body::take,
    fields::{Fields, NOT_IN_TRAILERS},
    head::{HeadScan, classify},
};

/// Maximum length in bytes of the line with the size of a chunk and its extensions. Larger ones are an error.
pub const MAX_CHUNK_LINE: usize = 4096;

/// Reads a chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    trailers: Limits,
    /// Trailers that were dropped because their names have an underscore.
    dropped: u32,
}

#[derive(Debug)]
enum State {
    /// Before the size of a chunk.
    Size,
    /// Within a chunk of which this many bytes remain.
    Data(u64),
    /// Before the line end after the data of a chunk.
    DataEnd,
    /// Before or within the trailers.
    Trailers(HeadScan),
    End,
}

impl Chunked {
    pub(super) fn new(trailers: Limits) -> Self {
        Self { state: State::Size, trailers, dropped: 0 }
    }

    pub(super) fn take_dropped(&mut self) -> u32 {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Takes the next part from the front of `input`. Trailers are dropped unless `enable_trailers`.
    pub(super) fn read(&mut self, input: &mut BytesMut, enable_trailers: bool) -> Result<Option<BodyPart>, Error> {
        loop {
            match &mut self.state {
                State::Size => {
                    let Some(size) = take_size(input)? else { return Ok(None) };
                    self.state = if size == 0 { State::Trailers(HeadScan::default()) } else { State::Data(size) };
                }
                State::Data(remaining) => {
                    let Some(data) = take(input, remaining) else { return Ok(None) };
                    if *remaining == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Some(BodyPart::Data(data)));
                }
                State::DataEnd => {
                    let length = match **input {
                        [b'\r', b'\n', ..] => 2,
                        [] | [b'\r'] => return Ok(None),
                        _ => return Err(Error::InvalidChunk),
                    };
                    input.advance(length);
                    self.state = State::Size;
                }
                State::Trailers(scan) => {
                    let Some(end) = scan.find(input, self.trailers)? else { return Ok(None) };
                    let bytes = input.split_to(end).freeze();
                    self.state = State::End;
                    if end > EMPTY_LINE {
                        // As in Envoy, any number of trailers can be dropped, but they must be valid.
                        let max_headers = if enable_trailers { self.trailers.max_headers } else { usize::MAX };
                        let limits = Limits { max_headers, ..self.trailers };
                        let fields = read_trailers(&bytes, limits).map_err(|error| classify(error, &bytes))?;
                        self.dropped += fields.dropped;
                        let trailers = fields.headers;
                        if enable_trailers && !trailers.is_empty() {
                            return Ok(Some(BodyPart::Trailers(trailers)));
                        }
                    }
                }
                State::End => return Ok(Some(BodyPart::End)),
            }
        }
    }
}

/// The length of a line without trailers.
const EMPTY_LINE: usize = 2;

/// Takes the line with the size of a chunk.
fn take_size(input: &mut BytesMut) -> Result<Option<u64>, Error> {
    let Some(end) = memchr(b'\n', input) else {
        return if input.len() > MAX_CHUNK_LINE { Err(Error::InvalidChunk) } else { Ok(None) };
    };
    if end >= MAX_CHUNK_LINE {
        return Err(Error::InvalidChunk);
    }
    let size = chunk_size(input[..end].strip_suffix(b"\r").ok_or(Error::InvalidChunk)?)?;
    let length = end + 1;
    input.advance(length);
    Ok(Some(size))
}

/// The size of a chunk. Extensions are ignored, as RFC 9112 section 7.1.1 asks for.
fn chunk_size(line: &[u8]) -> Result<u64, Error> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, rest) = line.split_at(digits);
    let begins_extension = matches!(rest, [] | [b' ' | b'\t' | b';', ..]);
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    if size.is_empty() || !begins_extension || rest.iter().any(is_control) {
        return Err(Error::InvalidChunk);
    }
    size.iter()
        .try_fold(0_u64, |size, digit| {
            let digit = char::from(*digit).to_digit(16).map_or(0, u64::from);
            size.checked_mul(16)?.checked_add(digit)
        })
        .ok_or(Error::InvalidChunk)
}

fn read_trailers(bytes: &bytes::Bytes, limits: Limits) -> Result<Fields, Error> {
    let mut trailers = Fields::read(bytes, 0, limits, None)?;
    for name in &NOT_IN_TRAILERS {
        trailers.headers.remove(name);
    }
    Ok(trailers)
}
