//! Objects in memory.

use std::path::PathBuf;
use std::time::Duration;

use mesh_control::source::{ConfigSource, Objects};
use tokio::time::Instant;

use super::{Instance, Place, check, kubernetes_objects};

struct Memory(Objects);

impl Place for Memory {
    const HOST: &'static str = "reviews.default.svc.cluster.local";

    fn source(&mut self) -> Box<dyn ConfigSource> {
        self.0.complete();
        Box::new(self.0.clone())
    }

    fn set(&mut self, instances: &[Instance]) {
        let objects = kubernetes_objects(instances).into_iter();
        self.0.replace("memory", objects.map(|(name, text)| (PathBuf::from("memory").join(name), text)));
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_follows_objects_within_a_second() {
    let start = Instant::now();
    check(Memory(Objects::new())).await;
    assert!(start.elapsed() < Duration::from_secs(1), "all changes took {:?}", start.elapsed());
}
