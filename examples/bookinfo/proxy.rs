//! `mesh-proxy` in a separate process.
//!
//! The example contains the proxy and starts itself again as one, so nothing else has to be built. The process does what
//! the program `mesh-proxy` does with the same arguments. It logs errors only; productpage prints changes of the
//! configuration.

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

/// The first argument of this program if it is to run as a proxy.
pub(crate) const ARGUMENT: &str = "mesh-proxy";

/// A running proxy. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
}

impl Proxy {
    /// Starts a proxy. Each line of its output is printed with the prefix `name`.
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

    /// Whether it is running.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it exits.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Makes it drain by SIGTERM and waits until it exits. It is killed after `limit`.
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
