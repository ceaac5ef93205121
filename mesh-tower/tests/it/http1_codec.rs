//! The HTTP/1 codec of mesh-core and hyper talk to each other over memory: each reads what the other writes.

use std::{
    cell::RefCell,
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, request, response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh_core::{
    http1::{BodyPart, BodyWriter, Error, Limits, RequestReader, ResponseReader, write_request, write_response},
    model::Http1Options,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

const SEEDS: u64 = 500;
const LIMITS: Limits = Limits::new(60 * 1024, 100);
const TRAILER: HeaderName = HeaderName::from_static("x-trailer");

fn options() -> Http1Options {
    let mut options = Http1Options::default();
    options.enable_trailers = true;
    options
}

#[tokio::test]
async fn hyper_serves_our_requests_and_we_read_its_responses() {
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let exchanges: Vec<_> = (0..rng.u32(1..4)).map(|_| Exchange::random(&mut rng)).collect();
        let (ours, theirs) = duplex(rng.usize(1..2000));
        let served = RefCell::new(exchanges.iter());
        let service = service_fn(async |request: Request<Incoming>| {
            let exchange = served.borrow_mut().next().expect("there are as many requests as were sent");
            exchange.check_request(request).await;
            Ok::<_, Infallible>(Response::from_parts(exchange.response_head(), exchange.response.body()))
        });
        let connection = server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
        let client = async {
            let mut io = Io { stream: ours, input: BytesMut::new() };
            let mut reader = ResponseReader::new(options(), LIMITS);
            for exchange in &exchanges {
                let mut out = Vec::new();
                let length = exchange.request.known_length();
                let writer = write_request(&exchange.request_head(), length, options(), &mut out);
                exchange.request.write(writer, &mut out);
                io.send(&out, &mut rng).await;
                let head = io.receive(|input| reader.read_head(input, &exchange.method)).await;
                let content = io.content(|input| reader.read_body(input)).await;
                assert_eq!(head.parts.status, exchange.status, "seed {seed}");
                assert_eq!(fields(&head.parts.headers), fields(&exchange.response.headers), "seed {seed}");
                exchange.response.check(&content);
            }
        };
        let ((), served) = tokio::join!(client, connection);
        served.expect("the connection ends without an error");
    }
}

#[tokio::test]
async fn hyper_reads_our_responses_and_we_read_its_requests() {
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let exchanges: Vec<_> = (0..rng.u32(1..4)).map(|_| Exchange::random(&mut rng)).collect();
        let (ours, theirs) = duplex(rng.usize(1..2000));
        let (mut sender, connection) =
            client::conn::http1::handshake(TokioIo::new(theirs)).await.expect("nothing to wait for");
        let exchanges = &exchanges;
        let client = async move {
            for exchange in exchanges {
                sender.ready().await.expect("the connection is open");
                let request = Request::from_parts(exchange.request_head(), exchange.request.body());
                let response = sender.send_request(request).await.expect("a response");
                exchange.check_response(response).await;
            }
        };
        let server = async {
            let mut io = Io { stream: ours, input: BytesMut::new() };
            let mut reader = RequestReader::new(options(), LIMITS);
            for exchange in exchanges {
                let head = io.receive(|input| reader.read_head(input)).await;
                let content = io.content(|input| reader.read_body(input)).await;
                assert_eq!((&head.parts.method, head.parts.uri.path()), (&exchange.method, "/a"), "seed {seed}");
                assert_eq!(fields(&head.parts.headers), fields(&exchange.request.headers), "seed {seed}");
                exchange.request.check(&content);
                let mut out = Vec::new();
                let request = (&exchange.method, Version::HTTP_11);
                let length = exchange.response.known_length();
                let writer = write_response(&exchange.response_head(), length, request, options(), &mut out);
                exchange.response.write(writer, &mut out);
                io.send(&out, &mut rng).await;
            }
        };
        let ((), connection, ()) = tokio::join!(client, connection, server);
        connection.expect("the connection ends without an error");
    }
}

/// A request and its response.
struct Exchange {
    method: Method,
    request: Content,
    status: StatusCode,
    response: Content,
}

impl Exchange {
    fn random(rng: &mut Rng) -> Self {
        let method = pick(rng, &[Method::GET, Method::POST, Method::PUT, Method::HEAD]);
        let status =
            pick(rng, &[StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED]);
        let has_body = method != Method::HEAD && !matches!(status.as_u16(), 204 | 304);
        let (mut request, mut response) = (Content::random(rng), Content::random(rng));
        if matches!(method, Method::GET | Method::HEAD) {
            // Of other requests with these methods, hyper does not send the body.
            (request.is_length_known, request.trailers) = (true, None);
        }
        if !has_body {
            response = Content { headers: response.headers, ..Content::default() };
        }
        Self { method, request, status, response }
    }

    fn request_head(&self) -> request::Parts {
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method.clone();
        head.uri = "/a".parse().expect("a path");
        head.headers = self.request.announced();
        // Without it, hyper sends no trailers.
        head.headers.insert("te", HeaderValue::from_static("trailers"));
        head.headers.insert("host", HeaderValue::from_static("h"));
        head
    }

    fn response_head(&self) -> response::Parts {
        let mut head = Response::new(()).into_parts().0;
        head.status = self.status;
        head.headers = self.response.announced();
        head
    }

    async fn check_request(&self, request: Request<Incoming>) {
        let (head, body) = request.into_parts();
        assert_eq!((&head.method, head.uri.path()), (&self.method, "/a"));
        assert_eq!(fields(&head.headers), fields(&self.request.headers));
        self.request.check(&collect(body).await);
    }

    async fn check_response(&self, response: Response<Incoming>) {
        let (head, body) = response.into_parts();
        assert_eq!(head.status, self.status);
        assert_eq!(fields(&head.headers), fields(&self.response.headers));
        self.response.check(&collect(body).await);
    }
}

/// The headers, body and trailers of a message.
#[derive(Clone, Debug, Default)]
struct Content {
    headers: HeaderMap,
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    is_length_known: bool,
}

impl Content {
    fn random(rng: &mut Rng) -> Self {
        let names = ["a", "accept", "set-cookie", "x-long-name"].map(HeaderName::from_static);
        let values = ["", "1", "a, b", "\"\u{e9}\"; c=d"].map(|value| HeaderValue::from_str(value).expect("a value"));
        let headers = (0..rng.usize(..5)).map(|_| (pick(rng, &names), pick(rng, &values))).collect();
        let piece = |rng: &mut Rng| (0..rng.usize(1..400)).map(|_| rng.u8(..)).collect();
        let pieces = (0..rng.usize(..4)).map(|_| piece(rng)).collect();
        let is_length_known = rng.bool();
        let trailers = (!is_length_known && rng.bool()).then(|| HeaderMap::from_iter([(TRAILER, pick(rng, &values))]));
        Self { headers, pieces, trailers, is_length_known }
    }

    /// The headers, with an announcement of the trailers, without which hyper sends none.
    fn announced(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        if self.trailers.is_some() {
            headers.insert("trailer", TRAILER.into());
        }
        headers
    }

    fn known_length(&self) -> Option<u64> {
        self.is_length_known.then(|| self.data().len() as u64)
    }

    fn data(&self) -> Vec<u8> {
        self.pieces.iter().flatten().copied().collect()
    }

    /// The body for hyper.
    fn body(&self) -> Self {
        self.clone()
    }

    /// Writes the body with our codec.
    fn write(&self, mut writer: BodyWriter, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            writer.begin_data(piece.len(), out).expect("within the length of the body");
            out.extend_from_slice(piece);
            out.extend_from_slice(writer.after_data());
        }
        writer.end(self.trailers.as_ref(), out).expect("the body is complete");
    }

    fn check(&self, (data, trailers): &(Vec<u8>, Option<HeaderMap>)) {
        assert_eq!((data, trailers), (&self.data(), &self.trailers));
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.pieces.pop_front().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        self.known_length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Our end of a connection.
struct Io {
    stream: DuplexStream,
    input: BytesMut,
}

impl Io {
    /// Sends in pieces, which arrive one after the other.
    async fn send(&mut self, mut bytes: &[u8], rng: &mut Rng) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(rng.usize(1..=bytes.len()));
            self.stream.write_all(piece).await.expect("the peer reads");
            tokio::task::yield_now().await;
            bytes = rest;
        }
    }

    /// Receives until `read` returns something.
    async fn receive<T>(&mut self, mut read: impl FnMut(&mut BytesMut) -> Result<Option<T>, Error>) -> T {
        loop {
            if let Some(read) = read(&mut self.input).expect("the peer writes valid messages") {
                return read;
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.expect("memory"), 0, "the connection ended");
        }
    }

    /// Receives a body and its trailers.
    async fn content(
        &mut self,
        mut read: impl FnMut(&mut BytesMut) -> Result<Option<BodyPart>, Error>,
    ) -> (Vec<u8>, Option<HeaderMap>) {
        let (mut data, mut trailers) = (Vec::new(), None);
        loop {
            match self.receive(&mut read).await {
                BodyPart::Data(more) => data.extend_from_slice(&more),
                BodyPart::Trailers(received) => trailers = Some(received),
                BodyPart::End => return (data, trailers),
            }
        }
    }
}

async fn collect(body: Incoming) -> (Vec<u8>, Option<HeaderMap>) {
    let body = body.collect().await.expect("a complete body");
    let trailers = body.trailers().cloned();
    (body.to_bytes().to_vec(), trailers)
}

/// The headers in order of their names, without those that concern the connection or that a codec adds.
fn fields(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let added = ["content-length", "transfer-encoding", "date", "host", "te", "trailer"];
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut headers: Vec<_> = headers.filter(|(name, _)| !added.contains(name)).collect();
    headers.sort_by_key(|(name, _)| *name);
    headers
}

fn pick<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())].clone()
}
