//! A directory that changes under a running mesh, through the real file watch.

use std::fs;
use std::time::Duration;

use mesh_xds::status::ConfigStatus;

use super::*;
use crate::config::Strictness;

fn entry(port: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [a.example], \
         resolution: DNS, ports: [{{number: {port}, name: http, protocol: HTTP}}]}}\n"
    )
}

/// A new directory, removed with the value.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-control-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Follows the directory in the background; the receiver yields the outcome of each change.
fn follow(directory: Directory) -> mpsc::UnboundedReceiver<Result<u64, String>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(directory.run(move |reload| {
        let _ = sender.send(match reload {
            Reload::Applied { mesh, .. } => Ok(mesh.version),
            Reload::Rejected { diagnostics } => Err(diagnostics[0].to_string()),
            Reload::Unreadable(error) => Err(error.to_string()),
        });
    }));
    receiver
}

async fn next(reloads: &mut mpsc::UnboundedReceiver<Result<u64, String>>) -> Result<u64, String> {
    tokio::time::timeout(Duration::from_secs(20), reloads.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_invalid_change_leaves_the_last_good_configuration_in_force() {
    let files = TemporaryDirectory::new("reload");
    files.write("a.yaml", &entry("80"));
    let (directory, meshes) = Directory::open(&files.0, Strictness::Strict).unwrap();
    let status = directory.status();
    let port = || meshes.borrow().registry.services()[0].ports[0].number;
    let mut reloads = follow(directory);
    files.write("a.yaml", &entry("81"));
    assert_eq!((next(&mut reloads).await, port()), (Ok(2), 81));
    files.write("a.yaml", &entry("70000"));
    let error = next(&mut reloads).await.unwrap_err();
    assert!(error.contains("a.yaml:4:62: spec.ports[0].number: 70000 is out of range"), "{error}");
    assert_eq!((port(), meshes.borrow().version), (81, 2));
    let refusal = status.refusal().unwrap();
    let [refused] = &refusal.resources[..] else { panic!("{refusal:?}") };
    assert_eq!((refusal.version.as_str(), refusal.errors), ("3", 1));
    assert_eq!((&*refused.type_url, &*refused.name), ("networking.istio.io/v1/ServiceEntry", "default/a"));
    assert!(refused.details.contains("a.yaml:4:62: spec.ports[0].number: 70000 is out of range"), "{refused:?}");
    assert_eq!(refused.configuration.as_deref(), Some(&*entry("70000")));
    // The same text again is no change; the next good one is.
    files.write("notes.txt", "not a resource");
    files.write("a.yaml", &entry("82"));
    assert_eq!((next(&mut reloads).await, port()), (Ok(3), 82));
    assert_eq!(status.refusal(), None);
    let metrics = ConfigStatus { source: Some(status), ..ConfigStatus::default() }.prometheus_text();
    let labels = "group=\"networking.istio.io\",version=\"v1\",resource=\"serviceentries\"";
    for line in [
        format!("galley_validation_failed{{{labels},reason=\"invalid_resource\"}} 1"),
        format!("galley_validation_passed{{{labels}}} 3"),
        "mesh_config_last_reload_successful{} 1".to_owned(),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn following_ends_without_receivers() {
    let files = TemporaryDirectory::new("end");
    files.write("a.yaml", &entry("80"));
    let (directory, meshes) = Directory::open(&files.0, Strictness::Strict).unwrap();
    drop(meshes);
    directory.run(|_| {}).await;
}

#[tokio::test]
async fn a_directory_with_errors_does_not_open() {
    let files = TemporaryDirectory::new("invalid");
    files.write("a.yaml", &entry("0"));
    let error = Directory::open(&files.0, Strictness::Strict).unwrap_err();
    assert!(matches!(&error, OpenError::Invalid(diagnostics) if diagnostics.len() == 1));
    assert!(error.to_string().contains("0 is out of range"), "{error}");
    let error = Directory::open(&files.0.join("nowhere"), Strictness::Strict).unwrap_err();
    assert!(matches!(error, OpenError::Unreadable(_)), "{error}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_reported_by_name() {
    let files = TemporaryDirectory::new("unreadable");
    files.write("a.yaml", &entry("80"));
    let (directory, meshes) = Directory::open(&files.0, Strictness::Strict).unwrap();
    let status = directory.status();
    let mut reloads = follow(directory);
    fs::write(files.0.join("b.yaml"), b"kind: \xff").unwrap();
    let error = next(&mut reloads).await.unwrap_err();
    assert!(error.contains("b.yaml") && error.contains("UTF-8"), "{error}");
    let refused = status.refusal().unwrap().resources;
    assert!(refused.len() == 1 && refused[0].name.ends_with("b.yaml") && refused[0].type_url.is_empty(), "{refused:?}");
    fs::remove_file(files.0.join("b.yaml")).unwrap();
    assert_eq!((next(&mut reloads).await, meshes.borrow().version), (Ok(2), 2));
}

#[tokio::test]
async fn a_directory_that_replaces_another_is_followed() {
    let place = TemporaryDirectory::new("place");
    let path = place.0.join("mesh");
    let put = |text: &str| {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.yaml"), text).unwrap();
    };
    put(&entry("80"));
    let (directory, meshes) = Directory::open(&path, Strictness::Strict).unwrap();
    let port = || meshes.borrow().registry.services()[0].ports[0].number;
    let mut reloads = follow(directory);
    fs::remove_dir_all(&path).unwrap();
    let error = next(&mut reloads).await.unwrap_err();
    assert!(error.contains("cannot read the directory"), "{error}");
    assert_eq!(port(), 80, "the last good configuration stays");
    put(&entry("81"));
    assert_eq!((next(&mut reloads).await, port()), (Ok(2), 81));
    fs::rename(&path, place.0.join("old")).unwrap();
    put(&entry("82"));
    while port() != 82 {
        drop(next(&mut reloads).await);
    }
    fs::write(path.join("a.yaml"), entry("83")).unwrap();
    while port() != 83 {
        drop(next(&mut reloads).await);
    }
}
