//! Received bytes.

use std::{
    io::Result,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::buffers;

/// Bytes that a read asks for at first, and at most. It doubles while reads fill the buffer.
const READ_SIZE: std::ops::RangeInclusive<usize> = 8 * 1024..=128 * 1024;

/// Bytes that were received and not yet taken.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: BytesMut,
    read_size: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), read_size: *READ_SIZE.start() }
    }
}

impl Input {
    /// The bytes, for a reader that takes them from the front.
    pub(crate) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Reads from `io` once; returns how many bytes. 0 = the stream has ended. While there is nothing to read, an empty input
    /// has no buffer.
    pub(crate) fn poll_read<I: AsyncRead + Unpin>(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers::take_read();
        }
        self.bytes.reserve(self.read_size);
        let room = self.bytes.capacity() - self.bytes.len();
        let read = poll_read_buf(Pin::new(io), cx, &mut self.bytes);
        if read.is_pending() && self.bytes.is_empty() {
            self.release();
        }
        let read = ready!(read)?;
        self.read_size = match read {
            _ if read == room => (self.read_size * 2).min(*READ_SIZE.end()),
            _ => *READ_SIZE.start(),
        };
        Poll::Ready(Ok(read))
    }

    /// Gives the buffer back if there is nothing in it.
    pub(crate) fn release(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            buffers::put_read(std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.bytes.clear();
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::ReadBuf;

    use super::*;

    /// Has this many bytes; then nothing to read, for now.
    struct Available(usize);

    impl AsyncRead for Available {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            if self.0 == 0 {
                return Poll::Pending;
            }
            let read = self.0.min(buf.remaining());
            buf.initialize_unfilled_to(read).fill(b'x');
            buf.advance(read);
            self.0 -= read;
            Poll::Ready(Ok(()))
        }
    }

    fn read(input: &mut Input, io: &mut Available) -> Poll<usize> {
        input.poll_read(io, &mut Context::from_waker(Waker::noop())).map(|read| read.unwrap())
    }

    #[test]
    fn an_empty_input_has_no_buffer_while_there_is_nothing_to_read() {
        let (mut input, mut io) = (Input::default(), Available(0));
        assert!(read(&mut input, &mut io).is_pending());
        assert_eq!(input.bytes.capacity(), 0);
        io.0 = 5;
        assert_eq!(read(&mut input, &mut io), Poll::Ready(5));
        assert!(read(&mut input, &mut io).is_pending());
        input.release();
        assert_eq!(input.len(), 5);
        assert_eq!(&**input.bytes(), b"xxxxx", "received bytes are kept");
        input.bytes().clear();
        assert!(input.bytes.capacity() > 0 && input.is_empty());
        input.release();
        assert_eq!(input.bytes.capacity(), 0);
    }

    #[test]
    fn reads_grow_while_they_fill_the_buffer_up_to_a_bound() {
        let (mut input, mut io) = (Input::default(), Available(usize::MAX));
        let mut sizes = Vec::new();
        for _ in 0..20 {
            let Poll::Ready(read) = read(&mut input, &mut io) else { panic!("bytes are available") };
            sizes.push(read);
            input.bytes().clear();
        }
        assert!(sizes[0] >= *READ_SIZE.start() && sizes.is_sorted(), "{sizes:?}");
        assert!((*READ_SIZE.end()..=2 * *READ_SIZE.end()).contains(&sizes[19]), "{sizes:?}");
        io.0 = 1;
        assert_eq!(read(&mut input, &mut io), Poll::Ready(1));
        assert_eq!(input.read_size, *READ_SIZE.start(), "a read that does not fill it makes them small again");
    }

    #[test]
    fn a_buffer_that_grew_large_is_not_kept() {
        let (mut input, mut io) = (Input::default(), Available(usize::MAX));
        for _ in 0..6 {
            assert!(read(&mut input, &mut io).is_ready());
        }
        assert!(input.bytes.capacity() > 128 * 1024);
        drop(input);
        let mut other = Input::default();
        io.0 = 1;
        assert!(read(&mut other, &mut io).is_ready());
        assert!(other.bytes.capacity() <= 64 * 1024, "{}", other.bytes.capacity());
    }
}
