//! A directory of files.

use std::fs;
use std::path::PathBuf;

use mesh_control::source::{ConfigSource, Directory};

use super::{Instance, Place, check, kubernetes_objects};

struct Files(PathBuf);

impl Place for Files {
    const HOST: &'static str = "reviews.default.svc.cluster.local";

    fn source(&mut self) -> Box<dyn ConfigSource> {
        Box::new(Directory::watch(&self.0).expect("it exists"))
    }

    fn set(&mut self, instances: &[Instance]) {
        let texts: Vec<_> = kubernetes_objects(instances).into_iter().map(|(_, text)| text).collect();
        // Renamed into place, as editors do.
        fs::write(self.0.join(".new"), texts.join("\n---\n")).expect("it can be written");
        fs::rename(self.0.join(".new"), self.0.join("reviews.yaml")).expect("it can be renamed");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn traffic_follows_files() {
    let path = std::env::temp_dir().join(format!("mesh-control-registry-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    check(Files(path)).await;
}
