//! A directory that changes under a running mesh, through the real file watch, and objects in memory.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use mesh_xds::status::ConfigStatus;
use tokio::sync::mpsc;

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

/// Follows in the background; the receiver yields the outcome of each change.
fn follow(follower: Follower) -> mpsc::UnboundedReceiver<Result<u64, String>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(follower.run(move |reload| {
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

/// A ServiceEntry of this name and port.
fn named(name: &str, port: &str) -> String {
    entry(port).replace("name: a}", &format!("name: {name}}}")).replace("a.example", &format!("{name}.example"))
}

async fn open(sources: Vec<Box<dyn ConfigSource>>) -> (Follower, tokio::sync::watch::Receiver<Arc<crate::mesh::Mesh>>) {
    Follower::open(sources, Strictness::Strict).await.unwrap()
}

/// Names and ports of all services.
fn services(mesh: &crate::mesh::Mesh) -> Vec<String> {
    let services = mesh.registry.services().iter();
    let mut names: Vec<_> = services.map(|it| format!("{}:{}", it.host.as_str(), it.ports[0].number)).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn an_object_with_errors_keeps_its_last_good_version_while_others_change() {
    let objects = Objects::new();
    objects.put("a", entry("80"));
    objects.put("b", named("b", "0"));
    objects.complete();
    let (follower, meshes) = open(vec![Box::new(objects.clone())]).await;
    let status = follower.status();
    let services = || services(&meshes.borrow());
    assert_eq!(services(), ["a.example:80"], "without a last good version, the object is left out");
    assert_eq!(status.refusal().unwrap().resources[0].name, "default/b");
    let mut reloads = follow(follower);
    objects.put("a", entry("0"));
    objects.put("b", named("b", "80"));
    assert_eq!(next(&mut reloads).await, Ok(2));
    assert_eq!(services(), ["a.example:80", "b.example:80"]);
    assert_eq!(status.refusal().unwrap().resources[0].name, "default/a");
    objects.put("b", named("b", "70000"));
    let error = next(&mut reloads).await.unwrap_err();
    assert!(error.contains("spec.ports[0].number"), "nothing of it is in force: {error}");
    objects.put("a", entry("81"));
    objects.remove("b");
    assert_eq!(next(&mut reloads).await, Ok(3));
    assert_eq!((services(), status.refusal()), (vec!["a.example:81".to_owned()], None));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_security_is_never_left_out() {
    const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {action: DENY, rules: [{}]}\n";
    let invalid = POLICY.replace("DENY", "FORBID");
    let objects = Objects::new();
    objects.put("a", entry("80"));
    objects.put("p", &*invalid);
    objects.complete();
    let refused = Follower::open(vec![Box::new(objects.clone())], Strictness::Strict).await.unwrap_err();
    assert!(refused.to_string().contains("FORBID"), "{refused}");
    objects.put("p", POLICY);
    let (follower, meshes) = open(vec![Box::new(objects.clone())]).await;
    let mut reloads = follow(follower);
    objects.put("p", invalid);
    objects.put("a", entry("81"));
    assert_eq!(next(&mut reloads).await, Ok(2));
    assert_eq!(services(&meshes.borrow()), ["a.example:81"]);
    assert_eq!(meshes.borrow().config.authorization_policies.len(), 1, "the last good version stays");
    objects.put("q", POLICY.replace("name: p", "name: q").replace("DENY", "FORBID"));
    objects.put("a", entry("82"));
    assert!(next(&mut reloads).await.unwrap_err().contains("FORBID"));
    assert_eq!(services(&meshes.borrow()), ["a.example:81"], "without a last good version nothing changes");
}

#[tokio::test]
async fn a_directory_with_errors_does_not_keep_objects_from_changing() {
    let files = TemporaryDirectory::new("joined");
    files.write("a.yaml", &entry("80"));
    let objects = Objects::new();
    objects.complete();
    let directory = Directory::watch(&files.0).unwrap();
    let (follower, meshes) = open(vec![Box::new(directory), Box::new(objects.clone())]).await;
    let mut reloads = follow(follower);
    files.write("a.yaml", &entry("0"));
    assert!(next(&mut reloads).await.unwrap_err().contains("0 is out of range"));
    objects.put("b", named("b", "90"));
    assert_eq!(next(&mut reloads).await, Ok(2));
    assert_eq!(services(&meshes.borrow()), ["a.example:80", "b.example:90"]);
    fs::remove_dir_all(&files.0).unwrap();
    while !next(&mut reloads).await.is_err_and(|error| error.contains("cannot read the directory")) {}
    objects.put("b", named("b", "91"));
    while services(&meshes.borrow()) != ["a.example:80", "b.example:91"] {
        drop(next(&mut reloads).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_is_read_when_it_is_complete() {
    let objects = Objects::new();
    let writer = objects.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        writer.replace("k", [("k/a".into(), entry("80")), ("k/b".into(), named("b", "80"))]);
        writer.complete();
    });
    let (follower, meshes) = open(vec![Box::new(objects.clone())]).await;
    assert_eq!(services(&meshes.borrow()), ["a.example:80", "b.example:80"]);
    let mut reloads = follow(follower);
    objects.replace("k", [("k/b".into(), named("b", "81"))]);
    assert_eq!(next(&mut reloads).await, Ok(2));
    assert_eq!(services(&meshes.borrow()), ["b.example:81"]);
}
