//! Buffers that the connections of a thread take while they are in use.

use std::cell::RefCell;

use bytes::BytesMut;

/// How many buffers of each kind a thread keeps.
const KEPT: usize = 64;

/// Larger buffers are not kept.
const MAX_CAPACITY: usize = 64 * 1024;

#[derive(Default)]
struct Buffers {
    read: Vec<BytesMut>,
    write: Vec<Vec<u8>>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Takes a buffer for received bytes. It is empty.
pub(super) fn take_read() -> BytesMut {
    with(|buffers| buffers.read.pop()).unwrap_or_default()
}

/// Gives a buffer back. Messages may still use parts of its memory.
pub(super) fn put_read(mut buffer: BytesMut) {
    buffer.clear();
    if is_kept(buffer.capacity()) {
        with(|buffers| keep(&mut buffers.read, buffer));
    }
}

/// Takes a buffer for bytes to be sent. It is empty.
pub(super) fn take_write() -> Vec<u8> {
    with(|buffers| buffers.write.pop()).unwrap_or_default()
}

/// Gives a buffer back.
pub(super) fn put_write(mut buffer: Vec<u8>) {
    buffer.clear();
    if is_kept(buffer.capacity()) {
        with(|buffers| keep(&mut buffers.write, buffer));
    }
}

fn is_kept(capacity: usize) -> bool {
    (1..=MAX_CAPACITY).contains(&capacity)
}

fn keep<T>(list: &mut Vec<T>, buffer: T) -> Option<()> {
    (list.len() < KEPT).then(|| list.push(buffer))
}

/// `None` also while the thread ends, when connections may still be dropped.
fn with<T>(use_buffers: impl FnOnce(&mut Buffers) -> Option<T>) -> Option<T> {
    BUFFERS.try_with(|buffers| use_buffers(&mut buffers.borrow_mut())).ok().flatten()
}
