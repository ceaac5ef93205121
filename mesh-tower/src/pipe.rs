//! Copies bytes between two connections, in both directions, until both have ended.
//!
//! An end that has closed its write side may still receive (half-close). Bytes are read only after the previous ones are
//! written, so a slow reader slows the writer down. A pipe that waits for bytes has no buffer: pipes of one thread share
//! one, and only what could not be written at once is kept, at most as much as was read at once.

use std::{
    cell::Cell,
    future::poll_fn,
    io::{Error, ErrorKind, Result},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use mesh_core::telemetry::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// Bytes that are read at once.
const BUFFER_SIZE: usize = 32 * 1024;

/// What both ends of a pipe share.
#[derive(Debug)]
pub(crate) struct Pipe {
    start: Instant,
    /// Milliseconds from the start until bytes were last copied.
    last_activity_ms: AtomicU64,
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
        Self { start: Instant::now(), last_activity_ms: AtomicU64::new(0) }
    }

    /// Copies bytes in both directions until both ends have ended, or one of them fails.
    pub(crate) async fn run<D, U>(&self, downstream: End<'_, D>, upstream: End<'_, U>)
    where
        D: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let mut downstream = Metered { end: downstream, pipe: self };
        let mut upstream = Metered { end: upstream, pipe: self };
        let (mut up, mut down) = (Direction::default(), Direction::default());
        let copied = poll_fn(|cx| {
            let upwards = up.poll(cx, &mut downstream, &mut upstream)?;
            let downwards = down.poll(cx, &mut upstream, &mut downstream)?;
            if upwards.is_ready() && downwards.is_ready() { Poll::Ready(Ok::<_, Error>(())) } else { Poll::Pending }
        });
        if let Err(error) = copied.await {
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
    pipe: &'a Pipe,
}

impl<I: AsyncRead + Unpin> Metered<'_, I> {
    /// Reads into `buf`; returns how many bytes.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<usize>> {
        let read = ready!(Pin::new(&mut self.end.io).poll_read(cx, buf));
        let bytes = buf.filled().len();
        self.pipe.copied(self.end.meters.received, bytes);
        Poll::Ready(read.map(|()| bytes))
    }
}

impl<I: AsyncWrite + Unpin> Metered<'_, I> {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = match ready!(Pin::new(&mut self.end.io).poll_write(cx, bytes)) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            written => written,
        };
        self.pipe.copied(self.end.meters.sent, *written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.end.io).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.end.io).poll_shutdown(cx)
    }
}

/// One direction of a pipe.
#[derive(Debug, Default)]
struct Direction {
    /// Bytes that were read and could not be written yet.
    unwritten: Vec<u8>,
    /// How many of them have been written since.
    written: usize,
    needs_flush: bool,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Copying,
    /// One end has closed its write side; that of the other end is being closed.
    ShuttingDown,
    Done,
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Metered<'_, R>,
        to: &mut Metered<'_, W>,
    ) -> Poll<Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.progress == Progress::Copying {
            ready!(self.poll_write_rest(cx, to))?;
            if ready!(self.poll_copy(cx, from, to))? == 0 {
                self.progress = Progress::ShuttingDown;
            }
        }
        if self.progress == Progress::ShuttingDown {
            ready!(to.poll_shutdown(cx))?;
            self.progress = Progress::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what could not be written before.
    fn poll_write_rest<W>(&mut self, cx: &mut Context<'_>, to: &mut Metered<'_, W>) -> Poll<Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.written < self.unwritten.len() {
            self.written += ready!(to.poll_write(cx, &self.unwritten[self.written..]))?;
        }
        // Its memory stays: an end that was slow will be slow again.
        self.unwritten.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes as much as goes; returns how many bytes were read.
    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Metered<'_, R>,
        to: &mut Metered<'_, W>,
    ) -> Poll<Result<usize>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = Buffer::take();
        let mut read_buf = ReadBuf::new(&mut buffer.0);
        let Poll::Ready(read) = from.poll_read(cx, &mut read_buf) else {
            if self.needs_flush {
                ready!(to.poll_flush(cx))?;
                self.needs_flush = false;
            }
            return Poll::Pending;
        };
        let read = read?;
        let mut bytes = read_buf.filled();
        while !bytes.is_empty() {
            match to.poll_write(cx, bytes) {
                Poll::Ready(written) => bytes = &bytes[written?..],
                Poll::Pending => {
                    self.unwritten.extend_from_slice(bytes);
                    break;
                }
            }
            self.needs_flush = true;
        }
        Poll::Ready(Ok(read))
    }
}

/// A buffer that all pipes of a thread share, each for one read.
struct Buffer(Vec<u8>);

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Buffer {
    fn take() -> Self {
        let mut buffer = BUFFER.take();
        if buffer.is_empty() {
            buffer = vec![0; BUFFER_SIZE];
        }
        Self(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        BUFFER.set(std::mem::take(&mut self.0));
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
        for client_is_first in [true, false] {
            let ((mut client, downstream), (mut server, upstream)) = (duplex(64), duplex(64));
            let (received, sent) = (Counter::default(), Counter::default());
            let pipe = Pipe::new();
            let meters = Meters { received: &[&received], sent: &[&sent] };
            let talk = async {
                let (a, b) = if client_is_first { (&mut client, &mut server) } else { (&mut server, &mut client) };
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
            let expected = if client_is_first { (5, 3) } else { (3, 5) };
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
                client.write_all(&[7; 10 * BUFFER_SIZE]).await.unwrap();
                client.shutdown().await.unwrap();
            };
            let read = async {
                for _ in 0..10_000 {
                    tokio::task::yield_now().await;
                }
                assert!(received.get() <= (BUFFER_SIZE + 64) as u64, "{} bytes were read ahead", received.get());
                let mut bytes = Vec::new();
                server.read_to_end(&mut bytes).await.unwrap();
                assert_eq!(bytes, [7; 10 * BUFFER_SIZE]);
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
            let polled = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
            if polled.is_ready() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }
}
