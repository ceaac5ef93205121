//! An obvious reader: it sees all bytes of a connection at once and takes them apart line by line.

mod fields;
mod words;

use http::{Method, Uri};

use self::{
    fields::Fields,
    words::{chunk_size, has_control, is_token, is_visible, target, version, words},
};
use super::{
    super::{BodyLength, Error, Limits, MAX_CHUNK_LINE},
    Event,
};
use crate::model::Http1Options;

/// What the obvious reader reads.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) events: Vec<Event>,
    /// The errors that the connection may end with; none if it is understood. There are several if the first line has another error
    /// than the whole head: it depends on the pieces which one is found first.
    pub(super) errors: Vec<Error>,
}

/// Reads requests up to the end of `bytes`.
pub(super) fn requests(bytes: &[u8], options: Http1Options, limits: Limits) -> Expected {
    let mut model = Model { rest: bytes, options, limits, events: Vec::new() };
    let stop = loop {
        let read = model.request().and_then(|length| model.body(length));
        if let Err(stop) = read {
            break stop;
        }
    };
    Expected { events: model.events, errors: stop.errors }
}

/// Reads the responses to `methods` up to the end of `bytes`, which is the end of the connection.
pub(super) fn responses(bytes: &[u8], methods: &[Method], options: Http1Options, limits: Limits) -> Expected {
    let mut model = Model { rest: bytes, options, limits, events: Vec::new() };
    let mut errors = Vec::new();
    'requests: for method in methods {
        loop {
            let (status, length) = match model.response(method) {
                Ok(head) => head,
                Err(stop) => {
                    errors = stop.errors;
                    break 'requests;
                }
            };
            if let Err(stop) = model.body(length) {
                errors = if stop.errors.is_empty() { vec![Error::Incomplete] } else { stop.errors };
                break 'requests;
            }
            if status >= 200 {
                break;
            }
        }
    }
    Expected { events: model.events, errors }
}

/// Why reading stops: for one of the errors, or without one for lack of bytes.
struct Stop {
    errors: Vec<Error>,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self { errors: vec![error] }
    }
}

const MORE: Stop = Stop { errors: Vec::new() };

struct Model<'a> {
    rest: &'a [u8],
    options: Http1Options,
    limits: Limits,
    events: Vec<Event>,
}

impl<'a> Model<'a> {
    fn request(&mut self) -> Result<BodyLength, Stop> {
        while let [b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.first().is_some_and(|byte| !is_visible(*byte)) {
            return Err(Error::InvalidStartLine.into());
        }
        let first = self.rest.split_inclusive(|byte| *byte == b'\n').next().and_then(|line| line.strip_suffix(b"\n"));
        let first = first.map(|line| self.request_line(line.strip_suffix(b"\r").unwrap_or(line)));
        let in_first = first.and_then(Result::err);
        let head = self.rest;
        let read = self.lines().and_then(|lines| {
            let head = &head[..head.len() - self.rest.len()];
            self.request_head(&lines)
                .map_err(|error| if has_control(head) { Error::InvalidCharacters } else { error }.into())
        });
        let (text, length) = read.map_err(|mut stop: Stop| {
            stop.errors.extend(in_first);
            stop
        })?;
        self.events.push(Event::Head(text));
        Ok(length)
    }

    /// Method and words of a request line, as far as they are checked before the head is complete.
    fn request_line<'b>(&self, line: &'b [u8]) -> Result<(Method, Vec<&'b [u8]>), Error> {
        let words = words(line);
        if !(2..=3).contains(&words.len()) {
            return Err(Error::InvalidStartLine);
        }
        let method = str::from_utf8(words[0]).map_err(|_| Error::UnknownMethod)?;
        let is_known = METHODS.split_whitespace().any(|known| known == method);
        let is_token = words[0].iter().all(|byte| is_token(*byte));
        let is_custom = self.options.allow_custom_methods && is_token;
        if !is_known && !is_custom {
            return Err(Error::UnknownMethod);
        }
        Ok((method.parse().unwrap(), words))
    }

    fn request_head(&self, lines: &[&[u8]]) -> Result<(String, BodyLength), Error> {
        let (method, words) = self.request_line(lines[0])?;
        let version = version(words.get(2).copied().unwrap_or(b"HTTP/0.9"))?;
        let mut fields = Fields::parse(&lines[1..], self.limits.max_headers)?;
        let mut body = fields.framing(self.options)?.unwrap_or(BodyLength::None);
        let is_connect = method == Method::CONNECT;
        if is_connect {
            match body {
                BodyLength::None | BodyLength::Exact(0) => body = BodyLength::None,
                _ => return Err(Error::BodyDisallowed),
            }
            fields.remove("content-length");
        }
        let target = target(&method, str::from_utf8(words[1]).map_err(|_| Error::InvalidStartLine)?, self.options)?;
        let (uri, refused) = match target {
            Ok(uri) => (uri, None),
            Err(refused) => (Uri::default(), Some(refused)),
        };
        let upgrade = is_connect || (fields.option("connection", "upgrade") && !fields.get("upgrade").is_empty());
        let persistent = fields.is_persistent(version);
        let rest = format!("{body:?} persistent: {persistent} upgrade: {upgrade} refused: {refused:?}");
        Ok((format!("{method} {uri} {version:?}\n{}{rest}", fields.text()), body))
    }

    fn response(&mut self, method: &Method) -> Result<(u16, BodyLength), Stop> {
        let start = &self.rest[..self.rest.len().min(5)];
        if !b"HTTP/".starts_with(start) {
            return Err(Error::InvalidStartLine.into());
        }
        let lines = self.lines()?;
        if has_control(lines[0]) || lines[0].contains(&b'\r') {
            return Err(Error::InvalidCharacters.into());
        }
        let words = words(lines[0]);
        let [first, status, ..] = &words[..] else { return Err(Error::InvalidStartLine.into()) };
        let version = version(first)?;
        let status = str::from_utf8(status).ok().filter(|status| status.len() == 3 && !status.starts_with(['+', '0']));
        let status: u16 = status.and_then(|status| status.parse().ok()).ok_or(Error::InvalidStartLine)?;
        let mut fields = Fields::parse(&lines[1..], self.limits.max_headers)?;
        let never_has_body = status < 200 || status == 204;
        if never_has_body && !fields.get("transfer-encoding").is_empty() {
            return Err(Error::TransferEncodingNotAllowed.into());
        }
        let framing = fields.framing(self.options)?;
        if never_has_body && matches!(framing, Some(BodyLength::Exact(1..))) {
            return Err(Error::BodyDisallowed.into());
        }
        let is_tunnel = *method == Method::CONNECT && (200..300).contains(&status);
        let body = if never_has_body || status == 304 || *method == Method::HEAD || is_tunnel {
            BodyLength::None
        } else {
            framing.unwrap_or(BodyLength::UntilClose)
        };
        let persistent = fields.is_persistent(version) && body != BodyLength::UntilClose;
        let text = format!("{version:?} {status}\n{}{body:?} persistent: {persistent}", fields.text());
        self.events.push(Event::Head(text));
        Ok((status, body))
    }

    /// Takes all lines up to an empty one.
    fn lines(&mut self) -> Result<Vec<&'a [u8]>, Stop> {
        let mut lines = Vec::new();
        let mut size = 0;
        loop {
            let length = self.rest[size..].iter().position(|byte| *byte == b'\n');
            let end = length.map_or(self.rest.len(), |length| size + length + 1);
            if end > self.limits.max_bytes {
                return Err(Error::HeadersTooLarge.into());
            }
            let line = self.rest[size..end].strip_suffix(b"\n").ok_or(MORE)?;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            size = end;
            if line.is_empty() {
                self.rest = &self.rest[size..];
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    fn body(&mut self, length: BodyLength) -> Result<(), Stop> {
        match length {
            BodyLength::None => {}
            BodyLength::Exact(length) => self.data(length)?,
            BodyLength::UntilClose => self.data(self.rest.len() as u64)?,
            BodyLength::Chunked => self.chunks()?,
        }
        self.events.push(Event::End);
        Ok(())
    }

    fn data(&mut self, length: u64) -> Result<(), Stop> {
        let available = usize::try_from(length).unwrap_or(usize::MAX).min(self.rest.len());
        let (data, rest) = self.rest.split_at(available);
        self.rest = rest;
        match self.events.last_mut() {
            Some(Event::Data(before)) => before.extend_from_slice(data),
            _ if data.is_empty() => {}
            _ => self.events.push(Event::Data(data.to_vec())),
        }
        if (data.len() as u64) < length { Err(MORE) } else { Ok(()) }
    }

    fn chunks(&mut self) -> Result<(), Stop> {
        loop {
            let Some(length) = self.rest.iter().position(|byte| *byte == b'\n') else {
                return Err(if self.rest.len() > MAX_CHUNK_LINE { Error::InvalidChunk.into() } else { MORE });
            };
            let size = chunk_size(&self.rest[..=length]).ok_or(Error::InvalidChunk)?;
            self.rest = &self.rest[length + 1..];
            if size == 0 {
                return self.trailers();
            }
            self.data(size)?;
            match self.rest {
                [b'\r', b'\n', rest @ ..] => self.rest = rest,
                [] | [b'\r'] => return Err(MORE),
                _ => return Err(Error::InvalidChunk.into()),
            }
        }
    }

    fn trailers(&mut self) -> Result<(), Stop> {
        let lines = self.lines()?;
        let max_headers = if self.options.enable_trailers { self.limits.max_headers } else { usize::MAX };
        let has_control = lines.iter().any(|line| has_control(line));
        let fields = Fields::parse(&lines, max_headers);
        let mut fields = fields.map_err(|error| if has_control { Error::InvalidCharacters } else { error })?;
        for name in ["content-length", "transfer-encoding", "host"] {
            fields.remove(name);
        }
        let text = fields.text();
        if self.options.enable_trailers && !text.is_empty() {
            self.events.push(Event::Trailers(text));
        }
        Ok(())
    }
}

const METHODS: &str = "ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE \
    MSEARCH NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE \
    UNBIND UNLINK UNLOCK UNSUBSCRIBE";
