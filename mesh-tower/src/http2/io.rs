//! The byte stream of an HTTP/2 connection.
//!
//! h2 flushes after every frame with more than a few bytes of payload, and the task of a connection writes whatever its
//! streams have queued. The headers, the data and the trailers of one message would leave in three writes, and the peer would
//! wake up three times. h2 therefore writes to a buffer, and the task sends what is in it when h2 has been polled.
//!
//! If the task is woken for the first of several messages, it would also send each of them alone. With several streams, it
//! therefore waits for its next turn, before which the tasks of other streams run. With a single stream nothing would be
//! gained, and nothing is delayed.
//!
//! ```text
//!   h2 ──write──► buffer ──end of a turn──► wait for the end of the next turn ──► byte stream
//!                   │          └──one stream──────────────────────────────────────────►
//!                   └──full───────────────────────────────────────────────────────────►
//! ```
//!
//! h2's client does not tell that the endpoint has sent a GOAWAY that leaves open streams alone. A [`FrameScanner`] watches
//! for it.

use std::{
    io::{Error, IoSlice, Result},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_scanner::FrameScanner;

/// What the byte stream of a connection shares with the users of the connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    streams: AtomicUsize,
    /// Maximum of `streams` since the last write.
    most_streams: AtomicUsize,
    bytes_written: AtomicU64,
    is_going_away: AtomicBool,
}

impl Traffic {
    /// The number of open streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Acquire)
    }

    /// Bytes written to the byte stream.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// Whether the peer has sent a GOAWAY.
    pub(crate) fn is_going_away(&self) -> bool {
        self.is_going_away.load(Ordering::Acquire)
    }

    /// Counts a stream that begins, unless `limit` are open.
    pub(crate) fn try_open(&self, limit: usize) -> bool {
        let opened = self.streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            if open < limit { open.checked_add(1) } else { None }
        });
        if let Ok(before) = opened {
            self.most_streams.fetch_max(before + 1, Ordering::Relaxed);
        }
        opened.is_ok()
    }

    /// Counts a stream that has ended. Returns whether it was the last one.
    pub(crate) fn close(&self) -> bool {
        self.streams.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether several streams were open at once since the last write.
    fn is_shared(&self) -> bool {
        self.most_streams.load(Ordering::Relaxed) > 1
    }

    fn wrote(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn all_written(&self) {
        self.most_streams.store(self.streams(), Ordering::Relaxed);
    }
}

/// The byte stream as h2 has it.
#[derive(Debug)]
pub(crate) struct Http2Io<I>(Arc<Mutex<Gathering<I>>>);

/// Sends what h2 has written. It belongs to the task of the connection.
#[derive(Debug)]
pub(crate) struct Flusher<I> {
    shared: Arc<Mutex<Gathering<I>>>,
    traffic: Arc<Traffic>,
}

/// A byte stream whose writes are gathered. Only the task of the connection uses it, so its lock is always free.
#[derive(Debug)]
struct Gathering<I> {
    inner: I,
    traffic: Arc<Traffic>,
    scanner: Option<FrameScanner>,
    gathered: Vec<u8>,
    /// How many gathered bytes have been written.
    sent: usize,
    /// What is gathered waits for the end of the next turn.
    is_put_off: bool,
    /// The byte stream has taken all bytes, but may keep them, as TLS does.
    needs_flush: bool,
    /// What h2 has yet to learn.
    failure: Option<Error>,
}

impl<I> Http2Io<I> {
    /// The byte stream of a connection to a client.
    pub(crate) fn server(inner: I) -> (Self, Flusher<I>) {
        Gathering::share(inner, None)
    }

    /// The byte stream of a connection to an endpoint.
    pub(crate) fn client(inner: I) -> (Self, Flusher<I>) {
        Gathering::share(inner, Some(FrameScanner::default()))
    }
}

impl<I> Flusher<I> {
    /// What the byte stream shares with the users of the connection.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }
}

impl<I: AsyncWrite + Unpin> Flusher<I> {
    /// Ends a turn of the connection's task. To be called after h2 was polled. If the byte stream fails, h2 learns it in the
    /// next turn.
    pub(crate) fn end_turn(&self, cx: &mut Context<'_>) {
        let mut gathering = self.shared.lock();
        // If the byte stream takes no more, it wakes the task, and this is called again.
        if let Poll::Ready(Err(error)) = gathering.poll_end_turn(cx) {
            gathering.failure = Some(error);
            cx.waker().wake_by_ref();
        }
    }
}

impl<I> Gathering<I> {
    /// Maximum number of bytes that are gathered: that of h2's own buffer.
    const CAPACITY: usize = 16 * 1024;

    /// Maximum capacity of the buffer of an idle connection, in bytes.
    const IDLE_CAPACITY: usize = 4 * 1024;

    fn share(inner: I, scanner: Option<FrameScanner>) -> (Http2Io<I>, Flusher<I>) {
        let traffic = Arc::<Traffic>::default();
        let shared = Arc::new(Mutex::new(Self {
            inner,
            traffic: Arc::clone(&traffic),
            scanner,
            gathered: Vec::new(),
            sent: 0,
            is_put_off: false,
            needs_flush: false,
            failure: None,
        }));
        (Http2Io(Arc::clone(&shared)), Flusher { shared, traffic })
    }

    fn check(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Whether what is gathered waits for the end of the next turn. Then the task is woken for it.
    fn puts_off(&mut self, cx: &Context<'_>) -> bool {
        let puts_off = !self.gathered.is_empty() && !self.is_put_off && self.traffic.is_shared();
        if puts_off {
            self.is_put_off = true;
            cx.waker().wake_by_ref();
        }
        puts_off
    }

    fn all_sent(&mut self) {
        self.sent = 0;
        self.is_put_off = false;
        self.needs_flush = true;
        self.gathered.clear();
        if self.traffic.streams() == 0 {
            self.gathered.shrink_to(Self::IDLE_CAPACITY);
        }
        self.traffic.all_written();
    }
}

impl<I: AsyncWrite + Unpin> Gathering<I> {
    /// Writes what is gathered, and then `bufs`. Returns how many bytes of `bufs` were written.
    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        loop {
            let gathered = &self.gathered[self.sent..];
            let left = gathered.len();
            let written = if left == 0 {
                ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?
            } else if bufs.is_empty() {
                ready!(Pin::new(&mut self.inner).poll_write(cx, gathered))?
            } else {
                let slices: SmallVec<[IoSlice<'_>; 4]> =
                    std::iter::once(IoSlice::new(gathered)).chain(bufs.iter().copied()).collect();
                ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, &slices))?
            };
            self.traffic.wrote(written);
            if written < left {
                if written == 0 {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                self.sent += written;
                continue;
            }
            self.all_sent();
            // That no byte of `bufs` was written would mean that the byte stream has ended.
            if written > left || bufs.is_empty() {
                return Poll::Ready(Ok(written - left));
            }
        }
    }

    fn poll_send_gathered(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.gathered.is_empty() { Poll::Ready(Ok(())) } else { self.poll_send(cx, &[]).map_ok(|_| ()) }
    }

    fn poll_end_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.puts_off(cx) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send_gathered(cx))?;
        if self.needs_flush {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Http2Io<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let Gathering { inner, scanner, traffic, .. } = &mut *self.0.lock();
        ready!(Pin::new(inner).poll_read(cx, buf))?;
        if let Some(scanner) = scanner
            && scanner.has_go_away(&buf.filled()[before..])
        {
            traffic.is_going_away.store(true, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Http2Io<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let mut gathering = self.0.lock();
        gathering.check()?;
        let offered: usize = bufs.iter().map(|buf| buf.len()).sum();
        if gathering.gathered.len() + offered > Gathering::<I>::CAPACITY {
            return gathering.poll_send(cx, bufs);
        }
        for buf in bufs {
            gathering.gathered.extend_from_slice(buf);
        }
        Poll::Ready(Ok(offered))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The end of the turn sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(self.0.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut gathering = self.0.lock();
        ready!(gathering.poll_send_gathered(cx))?;
        Pin::new(&mut gathering.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        task::{Wake, Waker},
    };

    use super::*;

    /// A byte stream that takes at most `room` bytes, and records each write.
    #[derive(Debug, Default)]
    struct Recorder {
        writes: Vec<Vec<u8>>,
        room: usize,
        is_broken: bool,
        flushes: usize,
        is_shut_down: bool,
    }

    impl AsyncWrite for Recorder {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
            if self.is_broken {
                return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
            }
            if self.room == 0 {
                return Poll::Pending;
            }
            let taken = buf.len().min(self.room);
            self.room -= taken;
            self.writes.push(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            self.is_shut_down = true;
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A connection with a number of open streams.
    struct Fixture {
        io: Http2Io<Recorder>,
        flusher: Flusher<Recorder>,
        wakes: Arc<Wakes>,
    }

    impl Fixture {
        fn new(streams: usize) -> Self {
            let (io, flusher) = Http2Io::server(Recorder { room: usize::MAX, ..Recorder::default() });
            for _ in 0..streams {
                assert!(flusher.traffic().try_open(streams));
            }
            assert!(!flusher.traffic().try_open(streams));
            Self { io, flusher, wakes: Arc::default() }
        }

        /// How many bytes were taken; `None` = the writer has to wait.
        fn write(&mut self, bytes: &[u8]) -> Option<usize> {
            let waker = Waker::from(Arc::clone(&self.wakes));
            let written = Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&waker), bytes);
            match written {
                Poll::Ready(written) => Some(written.unwrap()),
                Poll::Pending => None,
            }
        }

        /// As h2 does after most frames.
        fn flush(&mut self) {
            assert!(Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(Waker::noop())).is_ready());
        }

        fn end_turn(&self) {
            let waker = Waker::from(Arc::clone(&self.wakes));
            self.flusher.end_turn(&mut Context::from_waker(&waker));
        }

        fn inner<T>(&self, get: impl FnOnce(&mut Recorder) -> T) -> T {
            get(&mut self.io.0.lock().inner)
        }

        fn take_writes(&self) -> Vec<String> {
            let writes = self.inner(|inner| std::mem::take(&mut inner.writes));
            writes.into_iter().map(|write| String::from_utf8(write).unwrap()).collect()
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn the_frames_of_a_turn_leave_in_one_write() {
        let mut fixture = Fixture::new(1);
        for _ in 0..2 {
            for bytes in ["headers", "data", "trailers"] {
                assert_eq!(fixture.write(bytes.as_bytes()), Some(bytes.len()));
                fixture.flush();
            }
            fixture.end_turn();
            assert_eq!((fixture.take_writes(), fixture.wakes()), (vec!["headersdatatrailers".to_owned()], 0));
        }
        fixture.end_turn();
        assert!(fixture.take_writes().is_empty());
    }

    #[test]
    fn with_several_streams_the_bytes_of_two_turns_leave_in_one_write() {
        let mut fixture = Fixture::new(2);
        for _ in 0..2 {
            for bytes in ["a", "b"] {
                fixture.write(bytes.as_bytes());
            }
            fixture.end_turn();
            assert!(fixture.take_writes().is_empty() && fixture.wakes() > 0, "put off, and the task is woken");
            fixture.write(b"c");
            fixture.end_turn();
            assert_eq!(fixture.take_writes(), ["abc"]);
            fixture.wakes = Arc::default();
        }
    }

    #[test]
    fn streams_that_have_ended_since_the_last_write_count() {
        let mut fixture = Fixture::new(2);
        assert!(!fixture.flusher.traffic().close());
        assert!(fixture.flusher.traffic().close());
        fixture.write(&[b'a'; 8_000]);
        fixture.end_turn();
        assert!(fixture.take_writes().is_empty());
        fixture.end_turn();
        fixture.write(b"b");
        fixture.end_turn();
        let writes: Vec<_> = fixture.take_writes().iter().map(String::len).collect();
        assert_eq!(writes, [8_000, 1], "then none is open");
        assert!(fixture.io.0.lock().gathered.capacity() <= Gathering::<Recorder>::IDLE_CAPACITY);
    }

    #[test]
    fn more_than_the_capacity_is_not_delayed_and_keeps_its_order() {
        let mut fixture = Fixture::new(2);
        fixture.write(b"first");
        let large = vec![b'x'; Gathering::<Recorder>::CAPACITY];
        assert_eq!(fixture.write(&large), Some(large.len()));
        let writes = fixture.take_writes();
        assert_eq!((writes.len(), &writes[0][..6]), (1, "firstx"));
        assert_eq!(writes[0].len(), 5 + large.len());
        assert_eq!(fixture.flusher.traffic().bytes_written(), 5 + large.len() as u64);
    }

    #[test]
    fn a_full_byte_stream_holds_back_the_writer_and_loses_nothing() {
        let mut fixture = Fixture::new(1);
        fixture.inner(|inner| inner.room = 3);
        fixture.write(b"abcdef");
        fixture.end_turn();
        let large = vec![b'x'; Gathering::<Recorder>::CAPACITY];
        assert_eq!(fixture.write(&large), None);
        fixture.inner(|inner| inner.room = 5);
        assert_eq!(fixture.write(&large), Some(2), "the rest of what was gathered, and the beginning of this");
        assert_eq!(fixture.take_writes(), ["abc", "defxx"]);
        fixture.write(b"abc");
        fixture.inner(|inner| inner.room = 3);
        assert_eq!(fixture.write(&large), None, "only what was gathered: the rest has to wait");
        assert_eq!(fixture.take_writes(), ["abc"]);
    }

    #[test]
    fn what_the_byte_stream_keeps_is_flushed_once() {
        let mut fixture = Fixture::new(1);
        fixture.write(b"a");
        for _ in 0..3 {
            fixture.end_turn();
        }
        assert_eq!(fixture.inner(|inner| inner.flushes), 1);
    }

    #[test]
    fn a_failure_at_the_end_of_a_turn_is_reported_in_the_next() {
        let mut fixture = Fixture::new(1);
        fixture.inner(|inner| inner.is_broken = true);
        fixture.write(b"a");
        fixture.end_turn();
        assert_eq!(fixture.wakes(), 1);
        let flushed = Pin::new(&mut fixture.io).poll_flush(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(flushed, Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn the_end_of_the_byte_stream_comes_after_what_was_gathered() {
        let mut fixture = Fixture::new(2);
        fixture.write(b"last");
        fixture.end_turn();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut fixture.io).poll_shutdown(&mut cx).is_ready());
        assert!(fixture.inner(|inner| inner.is_shut_down));
        assert_eq!(fixture.take_writes(), ["last"]);
    }
}
