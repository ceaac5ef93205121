//! Copies bytes between two connections, in both directions, until both have ended.
//!
//! An end that has closed its write side may still receive (half-close). Bytes are read only after the previous ones are
//! written, so a slow reader slows the writer down, and a pipe needs no more memory than two buffers.

use std::{
    io::{IoSlice, Result},
    pin::Pin,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use mesh_core::telemetry::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    time::{Instant, sleep_until},
};

/// Size of the buffer of one direction. Envoy reads as much at once.
const BUFFER: usize = 16 * 1024;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client's.
    Downstream,
    /// The endpoint's.
    Upstream,
}

/// What both ends of a pipe share.
#[derive(Debug)]
pub(crate) struct Pipe {
    start: Instant,
    /// Milliseconds from the start until bytes were last copied.
    last_activity_ms: AtomicU64,
    ended_first: OnceLock<Side>,
}

/// One end of a pipe.
#[derive(Debug)]
pub(crate) struct End<'a, I> {
    pub(crate) io: I,
    pub(crate) meters: Meters<'a>,
}

/// The counters of the bytes of one end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meters<'a> {
    /// Bytes from it.
    pub(crate) received: &'a [&'a Counter],
    /// Bytes to it.
    pub(crate) sent: &'a [&'a Counter],
}

impl Pipe {
    /// A pipe that starts now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last_activity_ms: AtomicU64::new(0), ended_first: OnceLock::new() }
    }

    /// Copies bytes in both directions until both ends have ended, or one of them fails.
    pub(crate) async fn run<D, U>(&self, downstream: End<'_, D>, upstream: End<'_, U>)
    where
        D: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let mut downstream = Metered { end: downstream, side: Side::Downstream, pipe: self };
        let mut upstream = Metered { end: upstream, side: Side::Upstream, pipe: self };
        if let Err(error) = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER).await {
            tracing::debug!(%error, "a connection failed while bytes were copied");
        }
    }

    /// Resolves when no bytes were copied for `timeout`; never if it is `None`.
    ///
    /// Copying bytes stores the time, which the timer reads when it fires.
    pub(crate) async fn idle(&self, timeout: Option<Duration>) {
        let Some(timeout) = timeout else { return std::future::pending().await };
        loop {
            let last = self.start + Duration::from_millis(self.last_activity_ms.load(Ordering::Relaxed));
            if last + timeout <= Instant::now() {
                return;
            }
            sleep_until(last + timeout).await;
        }
    }

    /// The end that was the first to close its write side, or to fail.
    pub(crate) fn ended_first(&self) -> Option<Side> {
        self.ended_first.get().copied()
    }

    fn copied(&self, counters: &[&Counter], bytes: usize) {
        if bytes > 0 {
            counters.iter().for_each(|counter| counter.add(bytes as u64));
            let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_activity_ms.store(elapsed, Ordering::Relaxed);
        }
    }
}

/// One end of a pipe that is running.
#[derive(Debug)]
struct Metered<'a, I> {
    end: End<'a, I>,
    side: Side,
    pipe: &'a Pipe,
}

impl<I> Metered<'_, I> {
    fn ended(&self) {
        // Only the first call has an effect.
        let _ = self.pipe.ended_first.set(self.side);
    }

    fn wrote(&self, written: Result<usize>) -> Result<usize> {
        match written {
            Ok(bytes) => self.pipe.copied(self.end.meters.sent, bytes),
            Err(_) => self.ended(),
        }
        written
    }

    fn alive<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| self.ended())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<'_, I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.end.io).poll_read(cx, buf));
        let bytes = buf.filled().len() - before;
        if bytes == 0 {
            self.ended();
        }
        self.pipe.copied(self.end.meters.received, bytes);
        Poll::Ready(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.end.io).poll_write(cx, buf));
        Poll::Ready(self.wrote(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = ready!(Pin::new(&mut self.end.io).poll_write_vectored(cx, bufs));
        Poll::Ready(self.wrote(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.end.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = ready!(Pin::new(&mut self.end.io).poll_flush(cx));
        Poll::Ready(self.alive(flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shut_down = ready!(Pin::new(&mut self.end.io).poll_shutdown(cx));
        Poll::Ready(self.alive(shut_down))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::advance,
    };

    use super::*;

    fn unmetered<I>(io: I) -> End<'static, I> {
        End { io, meters: Meters::default() }
    }

    #[tokio::test]
    async fn an_end_that_has_ended_may_still_receive_and_everything_is_counted() {
        for first in [Side::Downstream, Side::Upstream] {
            let ((mut client, downstream), (mut server, upstream)) = (duplex(64), duplex(64));
            let (received, sent) = (Counter::default(), Counter::default());
            let pipe = Pipe::new();
            let meters = Meters { received: &[&received], sent: &[&sent] };
            let talk = async {
                let (a, b) = match first {
                    Side::Downstream => (&mut client, &mut server),
                    Side::Upstream => (&mut server, &mut client),
                };
                a.write_all(b"hello").await.unwrap();
                a.shutdown().await.unwrap();
                let mut text = String::new();
                b.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, "hello");
                b.write_all(b"bye").await.unwrap();
                b.shutdown().await.unwrap();
                a.read_exact(&mut [0; 3]).await.unwrap();
            };
            tokio::join!(talk, pipe.run(End { io: downstream, meters }, unmetered(upstream)));
            assert_eq!(pipe.ended_first(), Some(first));
            let expected = if first == Side::Downstream { (5, 3) } else { (3, 5) };
            assert_eq!((received.get(), sent.get()), expected);
        }
    }

    #[tokio::test]
    async fn a_slow_reader_slows_the_writer_down() {
        let ((mut client, downstream), (mut server, upstream)) = (duplex(64), duplex(64));
        let received = Counter::default();
        let pipe = Pipe::new();
        let meters = Meters { received: &[&received], sent: &[] };
        let talk = async {
            let write = async {
                client.write_all(&[7; 10 * BUFFER]).await.unwrap();
                client.shutdown().await.unwrap();
            };
            let read = async {
                for _ in 0..10_000 {
                    tokio::task::yield_now().await;
                }
                assert!(received.get() <= (BUFFER + 64) as u64, "{} bytes were read ahead", received.get());
                let mut bytes = Vec::new();
                server.read_to_end(&mut bytes).await.unwrap();
                assert_eq!(bytes, [7; 10 * BUFFER]);
            };
            tokio::join!(write, read);
            drop((client, server));
        };
        tokio::join!(talk, pipe.run(End { io: downstream, meters }, unmetered(upstream)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_time_starts_at_the_last_byte_in_either_direction() {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let ((mut client, downstream), (mut server, upstream)) = (duplex(64), duplex(64));
        let pipe = Pipe::new();
        let running = pipe.run(unmetered(downstream), unmetered(upstream));
        tokio::pin!(running);
        for sender in [&mut client, &mut server] {
            advance(Duration::from_secs(8)).await;
            sender.write_all(b"x").await.unwrap();
            assert!(futures_are_pending(&mut running).await);
        }
        let since = Instant::now();
        tokio::select! {
            () = pipe.idle(Some(TIMEOUT)) => assert_eq!(since.elapsed(), TIMEOUT),
            () = &mut running => panic!("no end has ended"),
        }
    }

    async fn futures_are_pending(running: &mut Pin<&mut impl Future<Output = ()>>) -> bool {
        for _ in 0..4 {
            let polled = std::future::poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
            if polled.is_ready() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }
}
