//! The catalog of Consul. The agent is a double that answers blocking queries.

use std::io;

use mesh_control::source::ConfigSource;
use mesh_control::source::consul::{Consul, ConsulOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Instance, Place, check};

/// The index of the catalog before the first change.
const FIRST_INDEX: u64 = 100;

#[derive(Clone, Debug, Default)]
struct Catalog {
    index: u64,
    instances: Vec<Value>,
}

struct Agent {
    address: String,
    catalog: watch::Sender<Catalog>,
    /// Number of changes until the index goes backwards, if it does.
    restored_after: Option<u32>,
}

impl Agent {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (catalog, receiver) = watch::channel(Catalog { index: FIRST_INDEX, instances: Vec::new() });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let catalog = receiver.clone();
                // A connection that the client has closed is no failure.
                tokio::spawn(async move { serve(stream, catalog).await.ok() });
            }
        });
        Self { address, catalog, restored_after: None }
    }
}

/// Answers one query, when the index is another one than that of the query.
async fn serve(stream: TcpStream, mut catalog: watch::Receiver<Catalog>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while stream.read_line(&mut line).await? > 2 {
        head.push_str(&std::mem::take(&mut line));
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let known: Option<u64> = query.split("index=").nth(1).and_then(|index| index.parse().ok());
    // A change behind the index of the query is answered, too, as by an agent that was restored.
    let Ok(catalog) = catalog.wait_for(|catalog| known != Some(catalog.index)).await.map(|it| it.clone()) else {
        return Ok(());
    };
    let body = match path {
        "/v1/catalog/services" => json!({"reviews": []}),
        "/v1/health/service/reviews" => json!(catalog.instances),
        other => panic!("unexpected query {other}"),
    };
    let (body, index) = (body.to_string(), catalog.index);
    let head = format!("HTTP/1.1 200 OK\r\nx-consul-index: {index}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await
}

impl Place for Agent {
    const HOST: &'static str = "reviews.service.consul";

    fn source(&mut self) -> Box<dyn ConfigSource> {
        let mut options = ConsulOptions::default();
        options.address.clone_from(&self.address);
        Box::new(Consul::new(options))
    }

    fn set(&mut self, instances: &[Instance]) {
        let of = |instance: &Instance| {
            let status = if instance.is_ready { "passing" } else { "critical" };
            json!({"Node": {"Node": "n", "Address": "127.0.0.9", "Datacenter": "dc1"},
                "Service": {"ID": instance.address, "Service": "reviews", "Address": instance.address, "Port": 9080,
                    "Meta": {"protocol": "http", "version": instance.version}, "Weights": {"Passing": 1, "Warning": 1}},
                "Checks": [{"Status": status}]})
        };
        let instances = instances.iter().map(of).collect();
        let is_restored = self.restored_after == Some(0);
        self.restored_after = self.restored_after.and_then(|left| left.checked_sub(1));
        self.catalog.send_modify(|catalog| {
            catalog.index = if is_restored { 1 } else { catalog.index + 1 };
            catalog.instances = instances;
        });
    }
}

#[tokio::test]
async fn traffic_follows_consul() {
    check(Agent::start().await).await;
}

#[tokio::test]
async fn traffic_follows_consul_after_its_index_has_gone_backwards() {
    // The first instances are there before the client; after two more changes, the index is less than the client knows.
    check(Agent { restored_after: Some(3), ..Agent::start().await }).await;
}
