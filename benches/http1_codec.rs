//! What do parsing and writing the head of an HTTP/1 message cost?
//!
//! A browser's GET request with 12 headers and a response with a body of 1 KiB are read and written. A message that is read
//! lies in a receive buffer, of which the head keeps slices; the time contains copying the message there. It is written to a
//! buffer that is reused. For comparison, httparse finds the parts of the same heads, and keeps nothing.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

mod support;

use std::hint::black_box;

use bytes::BytesMut;
use http::{Method, Version};
use mesh_core::{
    http1::{BodyPart, Limits, RequestReader, ResponseReader, write_request, write_response},
    model::Http1Options,
};

use self::support::measure;

const CALLS: u32 = 1_024;
const LIMITS: Limits = Limits::new(60 * 1024, 100);
/// Messages in the receive buffer when it is filled.
const MESSAGES: usize = 16;
const BODY: [u8; 1024] = [b'x'; 1024];

const REQUEST: &str = "GET /products/4711?color=blue&size=xl HTTP/1.1\r\n\
    host: shop.example.com\r\n\
    connection: keep-alive\r\n\
    cache-control: max-age=0\r\n\
    upgrade-insecure-requests: 1\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    sec-fetch-site: same-origin\r\n\
    sec-fetch-mode: navigate\r\n\
    referer: https://shop.example.com/products\r\n\
    accept-encoding: gzip, deflate, br, zstd\r\n\
    accept-language: en-US,en;q=0.9,de;q=0.8\r\n\
    cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    server: envoy\r\n\
    date: Sun, 29 Nov 2026 14:00:00 GMT\r\n\
    content-type: application/json\r\n\
    content-length: 1024\r\n\
    cache-control: no-store\r\n\
    x-envoy-upstream-service-time: 3\r\n\r\n";

fn main() {
    let options = Http1Options::default();
    let mut out = Vec::with_capacity(4096);

    let mut reader = RequestReader::new(options, LIMITS);
    let mut input = Input::new(REQUEST.as_bytes());
    let cost = measure(CALLS, || reader.read_head(input.next()).expect("a request").expect("it is complete"));
    println!("read a request of 12 headers:   {cost}");
    println!("  httparse:                     {}", measure(CALLS, parse_request));
    let head = reader.read_head(input.next()).expect("a request").expect("it is complete");
    let cost = measure(CALLS, || {
        out.clear();
        write_request(&head.parts, Some(0), options, &mut out);
        black_box(&out);
    });
    println!("write it:                       {cost}");

    let mut reader = ResponseReader::new(options, LIMITS);
    let mut input = Input::new(&[RESPONSE.as_bytes(), &BODY].concat());
    let mut read = || {
        let input = input.next();
        let head = reader.read_head(input, &Method::GET).expect("a response").expect("it is complete");
        let data = reader.read_body(input).expect("a body");
        assert_eq!(reader.read_body(input), Ok(Some(BodyPart::End)));
        (head, data)
    };
    println!("read a response of 1 KiB:       {}", measure(CALLS, &mut read));
    println!("  httparse, its head:           {}", measure(CALLS, parse_response));
    let (head, _) = read();
    let cost = measure(CALLS, || {
        out.clear();
        let request = (&Method::GET, Version::HTTP_11);
        let mut body = write_response(&head.parts, Some(1024), request, options, &mut out);
        body.begin_data(BODY.len(), &mut out).expect("it has the declared length");
        out.extend_from_slice(&BODY);
        body.end(None, &mut out).expect("it is complete");
        black_box(&out);
    });
    println!("write it:                       {cost}");
}

/// A receive buffer that is filled whenever it is empty.
struct Input {
    received: Vec<u8>,
    buffer: BytesMut,
}

impl Input {
    fn new(message: &[u8]) -> Self {
        Self { received: message.repeat(MESSAGES), buffer: BytesMut::new() }
    }

    fn next(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() {
            self.buffer.extend_from_slice(&self.received);
        }
        &mut self.buffer
    }
}

fn parse_request() {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut headers);
    assert!(request.parse(black_box(REQUEST.as_bytes())).is_ok_and(|status| status.is_complete()));
    black_box(&request);
}

fn parse_response() {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    assert!(response.parse(black_box(RESPONSE.as_bytes())).is_ok_and(|status| status.is_complete()));
    black_box(&response);
}
