//! HTTP/2 clients that do nothing, or not enough.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use mesh_core::model::Codec;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::tests::{Fixture, everything_to_the_service, http, service};
use crate::Body;

const HEAD: u64 = 10;
const STREAM_IDLE: u64 = 20;
const IDLE: u64 = 30;
/// From the notice that a connection ends to its end.
const DRAIN: u64 = 5;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// GET, http, /, a.test.
const GET: &[u8] = b"\0\0\x0b\x01\x05\0\0\0\x01\x82\x86\x84\x41\x06a.test";
/// POST, http, /, a.test, and four bytes of data. More is to come.
const HALF_POST: &[u8] = b"\0\0\x0b\x01\x04\0\0\0\x01\x83\x86\x84\x41\x06a.test\0\0\x04\0\0\0\0\0\x01half";
/// SETTINGS_INITIAL_WINDOW_SIZE.
const CLOSED_WINDOWS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
const WIDE_WINDOWS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";

/// After how many seconds a connection ends whose client sends `bytes`, and perhaps reads.
async fn ends_after(codec_type: Codec, bytes: &[&[u8]], reads: bool) -> u64 {
    let mut config = http(everything_to_the_service());
    config.codec_type = codec_type;
    config.request_headers_timeout = Some(Duration::from_secs(HEAD));
    config.stream_idle_timeout = Some(Duration::from_secs(STREAM_IDLE));
    config.idle_timeout = Some(Duration::from_secs(IDLE));
    let fixture = Fixture::new(
        config,
        service(|request| async {
            let _ = request.into_body().collect().await;
            Response::new(Body::from(Bytes::from(vec![7; 10_000_000])))
        }),
    );
    let mut client = fixture.connect();
    let start = Instant::now();
    client.write_all(&bytes.concat()).await.unwrap();
    if reads {
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
    fixture.drain.emptied().await;
    assert_eq!(fixture.stat("http.in.downstream_rq_active"), 0);
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_client_does_too_little_is_closed() {
    let half_preface = &PREFACE[..20];
    let half_head = &GET[..15];
    // The last request ends when h2 has its whole response.
    let cases: [(Codec, &[&[u8]], u64); 8] = [
        (Codec::Auto, &[], IDLE),
        (Codec::Http2, &[], HEAD),
        (Codec::Auto, &[half_preface], HEAD),
        (Codec::Http2, &[half_preface], HEAD),
        (Codec::Auto, &[PREFACE], IDLE + DRAIN),
        (Codec::Auto, &[PREFACE, SETTINGS, half_head], IDLE + DRAIN),
        (Codec::Auto, &[PREFACE, SETTINGS, HALF_POST], STREAM_IDLE + IDLE + DRAIN),
        (Codec::Auto, &[PREFACE, CLOSED_WINDOWS, GET], IDLE + DRAIN),
    ];
    for (codec, bytes, expected) in cases {
        assert_eq!(ends_after(codec, bytes, true).await, expected, "{codec:?} {bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_client_reads_nothing_is_closed() {
    let ended = ends_after(Codec::Auto, &[PREFACE, WIDE_WINDOWS, GET], false).await;
    assert!((IDLE + DRAIN..=STREAM_IDLE + IDLE + 2 * DRAIN).contains(&ended), "{ended}");
}
