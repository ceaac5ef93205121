//! Worker threads, each with a single-threaded runtime, so that a request never changes threads.

use std::{
    io,
    thread::{self, JoinHandle},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Threads that serve connections. Dropping this cancels their tasks and joins them.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads, at least one.
    ///
    /// # Errors
    /// If the system cannot create a thread or its event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let threads = (0..count.max(1)).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// The runtimes of the threads, in order.
    pub fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.threads.iter().map(|worker| &worker.handle)
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // The sender sends nothing; dropping it stops the thread.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.threads {
            worker.stop = None;
        }
        for worker in &mut self.threads {
            if let Some(thread) = worker.thread.take() {
                // The panic hook has already reported a panic of the thread.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_runs_tasks_on_its_own_thread_until_dropped() {
        let workers = Workers::start(2).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        for handle in workers.handles() {
            let sender = sender.clone();
            handle.spawn(async move {
                sender.send(thread::current().name().map(str::to_owned)).unwrap();
                std::future::pending::<()>().await;
            });
        }
        drop(sender);
        let mut names = [receiver.recv().unwrap(), receiver.recv().unwrap()];
        names.sort();
        assert_eq!(names, [Some("worker-0".to_owned()), Some("worker-1".to_owned())]);
        drop(workers);
        assert!(receiver.recv().is_err(), "the tasks are cancelled");
    }
}
