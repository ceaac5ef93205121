//! The logs of the library.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, Once},
    thread::{self, ThreadId},
};

use mesh::{ConfigEvent, Mesh};
use tracing_subscriber::EnvFilter;

use crate::support::{ConfigDir, get, serve, shop};

/// The log of each thread. A mesh follows its configuration on its own thread, and each test runs on its own thread.
static LOGGED: Mutex<Option<HashMap<ThreadId, String>>> = Mutex::new(None);

/// Starts logging as with `RUST_LOG=mesh=debug`.
fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = EnvFilter::new("mesh=debug");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Writer).with_ansi(false).without_time().init();
    });
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut logged = LOGGED.lock().unwrap();
        let of_thread = logged.get_or_insert_default().entry(thread::current().id()).or_default();
        of_thread.push_str(str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that has logged `text`.
fn thread_that_logged(text: &str) -> ThreadId {
    let logged = LOGGED.lock().unwrap();
    *logged.as_ref().unwrap().iter().find(|(_, logged)| logged.contains(text)).unwrap().0
}

/// The lines of `level` that `thread` has logged since the last call.
fn lines(thread: ThreadId, level: &str) -> Vec<String> {
    let text = LOGGED.lock().unwrap().get_or_insert_default().remove(&thread).unwrap_or_default();
    text.lines().filter_map(|line| line.trim_start().strip_prefix(level)).map(str::to_owned).collect()
}

#[tokio::test]
async fn edits_are_logged_as_the_proxy_logs_them() {
    let dir = ConfigDir::new();
    dir.write("shop.yaml", &shop(7));
    start();
    let mesh = Mesh::builder().config_dir(dir.path()).service("shopp").build().await.unwrap();
    let follower = thread_that_logged("shopp");
    let [warning] = lines(follower, "WARN").try_into().unwrap();
    let expected = "no ServiceEntry or Service declares the service shopp.default.svc.cluster.local of this program, \
                    so other programs cannot call it; did you mean shop?";
    assert!(warning.ends_with(expected), "{warning}");

    let mut events = mesh.events();
    let _channel = mesh.channel("shop").unwrap();
    dir.write("shop.yaml", &shop("some"));
    while !matches!(events.next().await.unwrap(), ConfigEvent::Rejected(_)) {}
    let [refused] = lines(follower, "WARN").try_into().unwrap();
    assert!(refused.ends_with("configuration refused, the last good one stays in force:"), "{refused}");

    dir.write("shop.yaml", &shop(8));
    while !matches!(events.next().await.unwrap(), ConfigEvent::Applied(_)) {}
    let applied = lines(follower, "INFO");
    assert!(applied.iter().any(|line| line.ends_with("configuration 2 is valid")), "{applied:?}");
    assert!(applied.iter().any(|line| line.contains(": applied 1 load assignment in ")), "{applied:?}");
}

#[tokio::test]
async fn a_request_is_one_line_with_its_outcome() {
    let servers = Mesh::builder().service("shop").build().await.unwrap();
    let address = serve(&servers, "v1").await;
    let dir = ConfigDir::new();
    dir.write("shop.yaml", &shop(address.port()));
    let mesh = Mesh::builder().config_dir(dir.path()).build().await.unwrap();
    let channel = mesh.channel("shop").unwrap();
    get(&channel, "/first").await;

    start();
    let this = thread::current().id();
    lines(this, "");
    get(&channel, "/a").await;
    let mut of_requests = Vec::new();
    // The server may record the end of the response slightly later than the client.
    while of_requests.len() < 2 {
        of_requests.extend(lines(this, "DEBUG").into_iter().filter(|line| line.contains("request{")));
        tokio::task::yield_now().await;
    }
    of_requests.sort_unstable();
    let [inbound, outbound] = of_requests.try_into().unwrap();
    let expected = format!(
        "request{{direction=\"outbound\" method=GET uri=http://shop.default.svc.cluster.local:80/a route=default \
         cluster=outbound|80||shop.default.svc.cluster.local endpoint={address} tries=1 status=200 \
         details=via_upstream duration_ms="
    );
    assert!(outbound.contains(&expected), "{outbound}\n{expected}");
    let expected = "request{direction=\"inbound\" method=GET uri=";
    assert!(inbound.contains(expected) && inbound.contains("/a tries=0 status=200 duration_ms="), "{inbound}");
}
