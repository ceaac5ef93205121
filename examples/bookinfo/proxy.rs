//! `mesh-proxy` as a process of its own.
//!
//! The example carries the proxy and starts itself again as one, so that nothing else has to be built first. The
//! process is what the program `mesh-proxy` with the same arguments would be. It says only what ends it: what becomes of
//! the configuration is told by productpage.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// First argument of this program when it is to be a proxy.
pub(crate) const ARGUMENT: &str = "mesh-proxy";

/// A running proxy. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
}

impl Proxy {
    /// Starts a proxy; its output is shown line by line behind `name`.
    pub(crate) fn start(name: &'static str, arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(show_lines(name, stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(show_lines(name, stderr));
        }
        Ok(Self { child })
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resolves when it ends.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to drain (SIGTERM) and waits for its end; it is killed after `limit`.
    pub(crate) async fn terminate(mut self, limit: Duration) -> io::Result<ExitStatus> {
        if let Some(id) = self.child.id() {
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        }
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("still running after {limit:?}"))),
        }
    }
}

#[expect(clippy::print_stderr, reason = "the example's output")]
async fn show_lines(name: &'static str, output: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{name} | {line}");
    }
}
