//! A file in place of a control plane: Envoy `core.v3.PathConfigSource`.
//!
//! The file has a discovery response as YAML or JSON. It is read every second; a response is made of it when its text has changed.
//! If it cannot be read or is malformed, the last good resources stay in force.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Disconnected, Stream, Transport};
use crate::client::response::Response;
use crate::json;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
use crate::resource::ResourceType;

/// How often the file is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// Messages that may wait in either direction.
const CAPACITY: usize = 1;

/// A [`Transport`] to a file.
#[derive(Clone, Debug)]
pub struct File {
    path: Arc<str>,
    resource_type: ResourceType,
}

impl File {
    /// The file with resources of a type.
    #[must_use]
    pub fn new(path: &Arc<str>, resource_type: ResourceType) -> Self {
        Self { path: Arc::clone(path), resource_type }
    }
}

impl Transport for File {
    fn connect(&self) -> impl Future<Output = Result<Stream, Disconnected>> + Send + 'static {
        let file = self.clone();
        async move {
            let (requests, mut received) = mpsc::channel(CAPACITY);
            let (sender, responses) = mpsc::channel(CAPACITY);
            tokio::spawn(async move {
                let discard = async { while received.recv().await.is_some() {} };
                tokio::select! {
                    () = file.follow(&sender) => {}
                    () = discard => {}
                }
            });
            Ok(Stream { requests, responses })
        }
    }
}

impl File {
    /// Sends what the file has, for as long as it is received.
    async fn follow(&self, sender: &mpsc::Sender<Result<Response, Disconnected>>) {
        let mut last = None;
        loop {
            let text = std::fs::read_to_string(&*self.path).map_err(|error| error.to_string());
            if last.as_ref() != Some(&text) {
                match text.as_ref().map_err(ToOwned::to_owned).and_then(|text| self.read(text)) {
                    Ok(response) => {
                        if sender.send(Ok(response.into())).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::error!("{}: {error}; the last good resources stay in force", self.path),
                }
                last = Some(text);
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = sender.closed() => return,
            }
        }
    }

    fn read(&self, text: &str) -> Result<DiscoveryResponse, String> {
        let mut response: DiscoveryResponse = json::from_text(text, &self.path).map_err(|error| error.to_string())?;
        response.type_url = self.resource_type.type_url();
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(received: Option<Result<Response, Disconnected>>) -> DiscoveryResponse {
        match received {
            Some(Ok(Response::Whole(response))) => response,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_follows_each_change_and_none_a_file_that_cannot_be_read() {
        let path = std::env::temp_dir().join(format!("mesh-file-{}.yaml", std::process::id()));
        let file = File::new(&path.to_str().unwrap().into(), ResourceType::Cluster);
        let mut stream = file.connect().await.unwrap();
        let cluster = |name: &str| {
            let content = format!(
                "{{version_info: '{name}', resources: [{{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, \
                 name: {name}}}]}}"
            );
            std::fs::write(&path, content).unwrap();
        };
        // There is no file at first.
        assert!(tokio::time::timeout(3 * INTERVAL, stream.responses.recv()).await.is_err());
        cluster("one");
        let response = whole(stream.responses.recv().await);
        assert_eq!((&*response.version_info, response.resources.len()), ("one", 1));
        assert_eq!(response.type_url, ResourceType::Cluster.type_url());
        std::fs::write(&path, "resources: [").unwrap();
        assert!(tokio::time::timeout(3 * INTERVAL, stream.responses.recv()).await.is_err());
        cluster("two");
        assert_eq!(whole(stream.responses.recv().await).version_info, "two");
        std::fs::remove_file(&path).unwrap();
    }
}
