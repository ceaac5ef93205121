//! Visitors of the page: plain HTTP clients.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::{Request, StatusCode, header::HOST};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::reviews::Reviews;

/// The path of the book's reviews.
const REVIEWS: &str = "/api/v1/products/0/reviews";

/// Timeout of a visit; nothing in the example takes as long.
const LIMIT: Duration = Duration::from_secs(10);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Fetches `path` on a new connection, with one extra header if given.
pub(crate) async fn get(
    address: SocketAddr,
    path: &str,
    header: Option<(&str, &str)>,
) -> Result<(StatusCode, String), Error> {
    Visitor::connect(address).await?.get(path, header).await
}

/// A keep-alive connection.
#[derive(Debug)]
struct Visitor {
    address: SocketAddr,
    sender: http1::SendRequest<Empty<Bytes>>,
}

impl Visitor {
    async fn connect(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    async fn get(&mut self, path: &str, header: Option<(&str, &str)>) -> Result<(StatusCode, String), Error> {
        let mut request = Request::get(path).header(HOST, self.address.to_string());
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.sender.ready().await?;
        let answer = timeout(LIMIT, self.sender.send_request(request.body(Empty::new())?)).await??;
        let status = answer.status();
        let body = timeout(LIMIT, answer.into_body().collect()).await??.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// One request for the reviews.
#[derive(Debug)]
pub(crate) struct Visit {
    /// When the request was sent.
    pub(crate) at: Instant,
    /// The version that responded, or an error.
    pub(crate) outcome: Result<String, String>,
}

/// Requests the reviews once.
pub(crate) async fn visit(address: SocketAddr, header: Option<(&str, &str)>) -> Visit {
    let at = Instant::now();
    Visit { at, outcome: outcome(get(address, REVIEWS, header).await) }
}

fn outcome(answer: Result<(StatusCode, String), Error>) -> Result<String, String> {
    let (status, body) = answer.map_err(|error| error.to_string())?;
    if status != StatusCode::OK {
        return Err(format!("{status}: {body}"));
    }
    let reviews: Reviews = serde_json::from_str(&body).map_err(|error| format!("{error} in {body}"))?;
    Ok(reviews.version)
}

/// Visitors that request the reviews repeatedly.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    visitors: JoinSet<Vec<Visit>>,
}

impl Load {
    /// Number of concurrent visitors.
    const VISITORS: usize = 4;

    /// Starts requesting the reviews from `address`, with a pause after each request.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut visitors = JoinSet::new();
        for _ in 0..Self::VISITORS {
            let stop = Arc::clone(&stop);
            visitors.spawn(async move {
                let mut visits = Vec::new();
                let mut visitor = None;
                while !stop.load(Ordering::Relaxed) {
                    visits.push(look(address, &mut visitor).await);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                visits
            });
        }
        Self { stop, visitors }
    }

    /// Stops, and returns all visits.
    pub(crate) async fn stop(self) -> Vec<Visit> {
        self.stop.store(true, Ordering::Relaxed);
        self.visitors.join_all().await.into_iter().flatten().collect()
    }
}

/// Requests the reviews on the visitor's connection, which is dropped after a failure.
async fn look(address: SocketAddr, visitor: &mut Option<Visitor>) -> Visit {
    let at = Instant::now();
    let answer = async {
        let connected = match visitor.take() {
            Some(connected) => visitor.insert(connected),
            None => visitor.insert(Visitor::connect(address).await?),
        };
        connected.get(REVIEWS, None).await
    }
    .await;
    if answer.is_err() {
        *visitor = None;
    }
    Visit { at, outcome: outcome(answer) }
}

/// The number of responses of each version, and of each error.
pub(crate) fn tally<'a>(visits: impl IntoIterator<Item = &'a Visit>) -> BTreeMap<String, u32> {
    let mut tally = BTreeMap::new();
    for visit in visits {
        let key = match &visit.outcome {
            Ok(version) => version.clone(),
            Err(error) => format!("failed ({error})"),
        };
        *tally.entry(key).or_default() += 1;
    }
    tally
}
