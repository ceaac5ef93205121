//! The sinks of access logs. A request appends its line to a buffer in memory, and a thread writes the buffer.
//!
//! A disk or a terminal may block for long, so workers never write. The buffer is bounded: lines that do not fit because
//! the sink blocks are dropped and counted.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hashbrown::HashMap;
use mesh_core::{
    model::{AccessLog, AccessLogSink},
    telemetry::Counter,
};
use parking_lot::{Condvar, Mutex};
use thiserror::Error;

/// Longest time a line stays in the buffer while the sink does not block. Envoy `--file-flush-interval-msec`, there 10 s.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes in the buffer at which it is written at once. Envoy `--file-flush-min-size-kb`.
const FLUSH_SIZE: usize = 64 * 1024;

/// Bytes in the buffer at which lines are dropped.
const MAX_BUFFERED: usize = 4 * 1024 * 1024;

/// An access log cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open access log {}: {source}", path.display())]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// The open access logs of a process. Listeners that log to the same sink share it.
#[derive(Debug, Default)]
pub struct LogFiles {
    /// Access logs of all requests, in addition to those that listeners configure.
    common: Vec<AccessLog>,
    open: Mutex<HashMap<AccessLogSink, Arc<LogFile>>>,
}

/// One sink. Dropping the last handle writes the rest of the buffer.
pub struct LogFile {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    lines: Mutex<Lines>,
    more: Condvar,
    out: Mutex<Box<dyn Write + Send>>,
    dropped: Counter,
    failed: Counter,
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    closed: bool,
}

impl LogFiles {
    /// Adds access logs of all requests, in addition to those that listeners configure. They are opened immediately.
    ///
    /// # Errors
    /// If a file cannot be opened for appending.
    pub fn with_common(mut self, logs: Vec<AccessLog>) -> Result<Self, OpenError> {
        for log in &logs {
            self.open(&log.sink)?;
        }
        self.common = logs;
        Ok(self)
    }

    /// The access logs of all requests.
    pub(crate) fn common(&self) -> &[AccessLog] {
        &self.common
    }

    /// The sink, which is opened if it is not open yet.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn open(&self, sink: &AccessLogSink) -> Result<Arc<LogFile>, OpenError> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(sink) {
            return Ok(Arc::clone(file));
        }
        let out: Box<dyn Write + Send> = match sink {
            AccessLogSink::Stdout => Box::new(io::stdout()),
            AccessLogSink::Stderr => Box::new(io::stderr()),
            AccessLogSink::File(path) => Box::new(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|source| OpenError { path: path.clone(), source })?,
            ),
        };
        let file = Arc::new(LogFile::new(out));
        open.insert(sink.clone(), Arc::clone(&file));
        Ok(file)
    }

    /// Writes all buffers. To be called at the end of the process.
    pub fn flush(&self) {
        self.open.lock().values().for_each(|file| file.flush());
    }
}

impl LogFile {
    fn new(out: Box<dyn Write + Send>) -> Self {
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            more: Condvar::new(),
            out: Mutex::new(out),
            dropped: Counter::default(),
            failed: Counter::default(),
        });
        let for_writer = Arc::clone(&shared);
        let writer =
            thread::Builder::new().name("access-log".to_owned()).spawn(move || for_writer.write_until_closed());
        // Without a thread, lines are written by `flush` and when this is dropped.
        Self { shared, writer: writer.ok() }
    }

    /// Appends `line`, which includes its line end.
    pub fn write(&self, line: &[u8]) {
        let mut lines = self.shared.lines.lock();
        if lines.bytes.len() + line.len() > MAX_BUFFERED {
            self.shared.dropped.inc();
            return;
        }
        let before = lines.bytes.len();
        lines.bytes.extend_from_slice(line);
        if before < FLUSH_SIZE && lines.bytes.len() >= FLUSH_SIZE {
            self.shared.more.notify_one();
        }
    }

    /// Writes the buffer, in the calling thread.
    pub fn flush(&self) {
        self.shared.flush();
    }

    /// Lines that were dropped because the buffer was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.get()
    }
}

impl Shared {
    fn write_until_closed(&self) {
        loop {
            let closed = {
                let mut lines = self.lines.lock();
                if !lines.closed && lines.bytes.len() < FLUSH_SIZE {
                    self.more.wait_for(&mut lines, FLUSH_INTERVAL);
                }
                lines.closed
            };
            self.flush();
            if closed {
                return;
            }
        }
    }

    fn flush(&self) {
        // The sink is locked first, so that lines of two callers keep their order.
        let mut out = self.out.lock();
        let bytes = std::mem::take(&mut self.lines.lock().bytes);
        if bytes.is_empty() {
            return;
        }
        if let Err(error) = out.write_all(&bytes).and_then(|()| out.flush()) {
            if self.failed.get() == 0 {
                tracing::warn!(%error, "access log lines are lost");
            }
            self.failed.inc();
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.shared.lines.lock().closed = true;
        self.shared.more.notify_one();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been reported by its own thread.
            let _ = writer.join();
        }
        self.shared.flush();
    }
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFile").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A sink that blocks until it is allowed to go on.
    struct Stuck {
        allowed: Receiver<()>,
        written: Sender<usize>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.allowed.recv();
            let _ = self.written.send(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_gets_the_lines_of_all_its_handles_and_is_written_at_the_end() {
        let path = std::env::temp_dir().join(format!("mesh-log-file-{}", std::process::id()));
        let sink = AccessLogSink::File(path.clone());
        let files = LogFiles::default();
        let (first, second) = (files.open(&sink).unwrap(), files.open(&sink).unwrap());
        first.write(b"a\n");
        second.write(b"b\n");
        drop((first, second, files));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "a\nb\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let sink = AccessLogSink::File("/nonexistent/access.log".into());
        let error = LogFiles::default().open(&sink).unwrap_err().to_string();
        assert!(error.starts_with("cannot open access log /nonexistent/access.log: "), "{error}");
    }

    #[test]
    fn lines_are_dropped_when_the_sink_blocks() {
        let ((allow, allowed), (written, write)) = (channel(), channel());
        let file = LogFile::new(Box::new(Stuck { allowed, written }));
        let line = "x".repeat(MAX_BUFFERED / 4);
        for _ in 0..16 {
            file.write(line.as_bytes());
        }
        assert!(file.dropped() >= 8, "{}", file.dropped());
        drop(allow);
        drop(file);
        assert!(write.iter().sum::<usize>() >= MAX_BUFFERED / 4);
    }
}
