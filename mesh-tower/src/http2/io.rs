//! The byte stream of an HTTP/2 connection.
//!
//! The task of a connection writes whatever its streams have queued. If it is woken for the first of several responses, it
//! would write each of them alone. Writes are therefore gathered: the first flush only wakes the task again, and the bytes
//! leave in its next turn, after the tasks of other streams have run. With a single stream nothing would be gained, and
//! nothing is delayed.
//!
//! ```text
//!   h2 ──write──► buffer ──flush, first turn──► wait for the next turn ──flush──► byte stream
//!                   └──full, or one stream──────────────────────────────────────────►
//! ```
//!
//! h2's client does not tell that the endpoint has sent a GOAWAY that leaves open streams alone. A [`FrameScanner`] watches
//! for it.

use std::{
    io::{IoSlice, Result},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_scanner::FrameScanner;

/// What the byte stream of a connection shares with the users of the connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    streams: AtomicUsize,
    /// Maximum of `streams` since the last write.
    most_streams: AtomicUsize,
    turn: AtomicU32,
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

    /// Begins a turn of the connection's task. To be called before h2 is polled.
    pub(crate) fn begin_turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
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

/// A byte stream whose writes are gathered.
#[derive(Debug)]
pub(crate) struct Http2Io<I> {
    inner: I,
    traffic: Arc<Traffic>,
    scanner: Option<FrameScanner>,
    gathered: Vec<u8>,
    /// How many gathered bytes have been written.
    sent: usize,
    /// The turn in which a flush was put off.
    put_off_in: Option<u32>,
}

impl<I> Http2Io<I> {
    /// Maximum number of bytes that are gathered: that of h2's own buffer.
    const CAPACITY: usize = 16 * 1024;

    /// The byte stream of a connection to a client.
    pub(crate) fn server(inner: I, traffic: Arc<Traffic>) -> Self {
        Self { inner, traffic, scanner: None, gathered: Vec::new(), sent: 0, put_off_in: None }
    }

    /// The byte stream of a connection to an endpoint.
    pub(crate) fn client(inner: I, traffic: Arc<Traffic>) -> Self {
        Self { scanner: Some(FrameScanner::default()), ..Self::server(inner, traffic) }
    }

    fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// Whether a flush is put off. Then the task is woken for another turn.
    fn puts_off(&mut self, cx: &Context<'_>) -> bool {
        let turn = self.traffic.turn.load(Ordering::Relaxed);
        let is_first_turn = *self.put_off_in.get_or_insert(turn) == turn;
        let puts_off = is_first_turn && self.traffic.is_shared() && self.gathered.len() < Self::CAPACITY;
        if puts_off {
            cx.waker().wake_by_ref();
        }
        puts_off
    }

    fn all_sent(&mut self) {
        self.sent = 0;
        self.put_off_in = None;
        if self.traffic.is_shared() {
            self.gathered.clear();
        } else {
            // Idle connections hold no buffer.
            self.gathered = Vec::new();
        }
        self.traffic.all_written();
    }
}

impl<I: AsyncWrite + Unpin> Http2Io<I> {
    /// Writes what is gathered, and then `bufs`. Returns how many bytes of `bufs` were written.
    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        loop {
            let gathered = &self.gathered[self.sent..];
            let left = gathered.len();
            let written = if left == 0 {
                ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?
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
            return Poll::Ready(Ok(written - left));
        }
    }

    fn poll_send_gathered(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.is_empty() { Poll::Ready(Ok(())) } else { self.poll_send(cx, &[]).map_ok(|_| ()) }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Http2Io<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let Self { scanner, traffic, .. } = &mut *self;
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let offered: usize = bufs.iter().map(|buf| buf.len()).sum();
        if !self.traffic.is_shared() || self.gathered.len() + offered > Self::CAPACITY {
            return self.poll_send(cx, bufs);
        }
        for buf in bufs {
            self.gathered.extend_from_slice(buf);
        }
        Poll::Ready(Ok(offered))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.is_empty() && self.puts_off(cx) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send_gathered(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_send_gathered(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
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
        is_shut_down: bool,
    }

    impl AsyncWrite for Recorder {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
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

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
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
        traffic: Arc<Traffic>,
        wakes: Arc<Wakes>,
    }

    impl Fixture {
        fn new(streams: usize) -> Self {
            let traffic = Arc::<Traffic>::default();
            for _ in 0..streams {
                assert!(traffic.try_open(streams));
            }
            assert!(!traffic.try_open(streams));
            let inner = Recorder { room: usize::MAX, ..Recorder::default() };
            Self { io: Http2Io::server(inner, Arc::clone(&traffic)), traffic, wakes: Arc::default() }
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

        fn flush(&mut self) -> bool {
            let waker = Waker::from(Arc::clone(&self.wakes));
            Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&waker)).is_ready()
        }

        fn writes(&self) -> Vec<&str> {
            self.io.inner.writes.iter().map(|write| std::str::from_utf8(write).unwrap()).collect()
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn with_one_stream_nothing_is_delayed() {
        let mut fixture = Fixture::new(1);
        for bytes in ["a", "b"] {
            assert_eq!(fixture.write(bytes.as_bytes()), Some(1));
            assert!(fixture.flush());
        }
        assert_eq!((fixture.writes(), fixture.wakes()), (vec!["a", "b"], 0));
    }

    #[test]
    fn with_several_streams_the_bytes_of_two_turns_leave_in_one_write() {
        let mut fixture = Fixture::new(2);
        for _ in 0..2 {
            fixture.traffic.begin_turn();
            for bytes in ["a", "b"] {
                fixture.write(bytes.as_bytes());
                assert!(fixture.flush());
            }
            assert!(fixture.writes().is_empty() && fixture.wakes() > 0, "put off, and the task is woken");
            fixture.traffic.begin_turn();
            fixture.write(b"c");
            assert!(fixture.flush());
            assert_eq!(fixture.writes(), ["abc"]);
            fixture.io.inner.writes.clear();
            fixture.wakes = Arc::default();
        }
    }

    #[test]
    fn streams_that_have_ended_since_the_last_write_count() {
        let mut fixture = Fixture::new(2);
        assert!(!fixture.traffic.close());
        assert!(fixture.traffic.close());
        fixture.traffic.begin_turn();
        fixture.write(b"a");
        assert!(fixture.flush());
        assert!(fixture.writes().is_empty());
        fixture.traffic.begin_turn();
        assert!(fixture.flush());
        fixture.write(b"b");
        assert!(fixture.flush());
        assert_eq!(fixture.writes(), ["a", "b"], "then none is open");
        assert_eq!(fixture.io.gathered.capacity(), 0);
    }

    #[test]
    fn more_than_the_capacity_is_not_delayed_and_keeps_its_order() {
        let mut fixture = Fixture::new(2);
        fixture.traffic.begin_turn();
        fixture.write(b"first");
        let large = vec![b'x'; Http2Io::<Recorder>::CAPACITY];
        assert_eq!(fixture.write(&large), Some(large.len()));
        let writes = fixture.writes();
        assert_eq!((writes.len(), &writes[0][..6]), (1, "firstx"));
        assert_eq!(writes[0].len(), 5 + large.len());
        fixture.write(&large[..16_000]);
        fixture.write(&large[..384]);
        assert!(fixture.flush());
        assert_eq!(fixture.writes()[1].len(), large.len());
        assert_eq!(fixture.traffic.bytes_written(), 5 + 2 * large.len() as u64);
    }

    #[test]
    fn a_full_byte_stream_holds_back_the_writer_and_loses_nothing() {
        let mut fixture = Fixture::new(2);
        fixture.io.inner.room = 3;
        fixture.traffic.begin_turn();
        fixture.write(b"abcdef");
        assert!(fixture.flush());
        fixture.traffic.begin_turn();
        assert!(!fixture.flush());
        let large = vec![b'x'; Http2Io::<Recorder>::CAPACITY];
        assert_eq!(fixture.write(&large), None);
        fixture.io.inner.room = 5;
        assert_eq!(fixture.write(&large), Some(2), "the rest of what was gathered, and the beginning of this");
        assert_eq!(fixture.writes(), ["abc", "defxx"]);
    }

    #[test]
    fn the_end_of_the_byte_stream_comes_after_what_was_gathered() {
        let mut fixture = Fixture::new(2);
        fixture.write(b"last");
        assert!(fixture.flush());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut fixture.io).poll_shutdown(&mut cx).is_ready());
        assert_eq!((fixture.writes(), fixture.io.inner.is_shut_down), (vec!["last"], true));
    }
}
