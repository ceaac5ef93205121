use super::*;

/// What Istio's agent writes.
const ISTIO: &str = r#"{
  "xds_servers": [{
    "server_uri": "unix:///etc/istio/proxy/XDS",
    "channel_creds": [{"type": "insecure"}],
    "server_features": ["xds_v3"]
  }],
  "node": {
    "id": "sidecar~10.1.2.3~app-x.ns~ns.svc.cluster.local",
    "metadata": {"GENERATOR": "grpc", "NAMESPACE": "ns", "LABELS": {"app": "x"}},
    "locality": {}
  },
  "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": {
    "certificate_file": "/var/lib/istio/data/cert-chain.pem",
    "private_key_file": "/var/lib/istio/data/key.pem",
    "ca_certificate_file": "/var/lib/istio/data/root-cert.pem",
    "refresh_interval": "900s"
  }}},
  "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s"
}"#;

fn error(text: &str) -> String {
    GrpcBootstrap::from_json(text).unwrap_err().to_string()
}

fn server(server: &str) -> String {
    format!("{{\"xds_servers\": [{server}]}}")
}

#[test]
fn every_field_of_istios_agent_is_read() {
    let bootstrap = GrpcBootstrap::from_json(ISTIO).unwrap();
    let [server] = &*bootstrap.xds_servers else { panic!("{:?}", bootstrap.xds_servers) };
    assert_eq!(server.server_uri, "unix:///etc/istio/proxy/XDS");
    assert_eq!((&server.channel_creds, server.server_features), (&ChannelCreds::Insecure, ServerFeatures::default()));
    assert_eq!(bootstrap.node.id, "sidecar~10.1.2.3~app-x.ns~ns.svc.cluster.local");
    assert!(bootstrap.node.metadata.as_ref().unwrap().fields.contains_key("GENERATOR"));
    let provider = &bootstrap.certificate_providers["default"];
    let certificate = provider.certificate.as_ref().unwrap();
    assert_eq!(certificate.private_key_file.to_str(), Some("/var/lib/istio/data/key.pem"));
    assert_eq!(provider.refresh_interval, Duration::from_secs(900));
    assert_eq!(bootstrap.client_listener(None, "echo:80").unwrap(), "echo:80".into());
    let inbound = bootstrap.server_listener("0.0.0.0:80");
    assert_eq!(inbound.as_deref(), Some("xds.istio.io/grpc/lds/inbound/0.0.0.0:80"));
    assert!(bootstrap.ignored.is_empty(), "{:?}", bootstrap.ignored);
}

#[test]
fn a_target_with_an_authority_has_a_new_name() {
    let text = r#"{
      "xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "insecure"}],
                       "server_features": ["ignore_resource_deletion", "fail_on_data_errors"]}],
      "authorities": {
        "one": {},
        "two": {"client_listener_resource_name_template": "xdstp://two/envoy.config.listener.v3.Listener/x/%s",
                "xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "insecure"}],
                                 "server_features": ["ignore_resource_deletion"]}]}
      },
      "client_default_listener_resource_name_template": "l/%s",
      "novel": 1
    }"#;
    let bootstrap = GrpcBootstrap::from_json(text).unwrap();
    let name = |authority, target| bootstrap.client_listener(authority, target).map(|name| name.to_string());
    assert_eq!(name(None, "echo").unwrap(), "l/echo");
    assert_eq!(name(Some("one"), "[e]").unwrap(), "xdstp://one/envoy.config.listener.v3.Listener/%5Be%5D");
    assert_eq!(name(Some("two"), "echo").unwrap(), "xdstp://two/envoy.config.listener.v3.Listener/x/echo");
    assert_eq!(name(Some("three"), "echo").unwrap_err().to_string(), "gRPC bootstrap: authorities has no \"three\"");
    assert!(bootstrap.xds_servers[0].server_features.ignore_resource_deletion);
    assert_eq!(bootstrap.ignored, ["xds_servers[0].server_features: fail_on_data_errors", "novel"]);
}

#[test]
fn the_first_credentials_that_are_supported_are_used() {
    let text = server(r#"{"server_uri": "b:1", "channel_creds": [{"type": "google_default"}, {"type": "tls"}]}"#);
    let bootstrap = GrpcBootstrap::from_json(&text).unwrap();
    let ChannelCreds::Tls(tls) = &bootstrap.xds_servers[0].channel_creds else { panic!("{bootstrap:?}") };
    assert_eq!((&tls.files.certificate, &tls.files.ca_certificate_file), (&None, &None));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_path() {
    for (text, expected) in [
        ("[", "not JSON: EOF while parsing a list at line 1 column 1"),
        ("{}", "xds_servers: needs at least one server"),
        (&*server("{}"), "xds_servers[0].server_uri: is missing"),
        (&*server(r#"{"server_uri": "a:1"}"#), "xds_servers[0].channel_creds: needs at least one entry"),
        (
            &*server(r#"{"server_uri": "a:1", "channel_creds": [{"type": "google_default"}]}"#),
            "xds_servers[0].channel_creds: google_default: not supported, only insecure and tls are",
        ),
        (
            &*server(
                r#"{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config": {"certificate_file": "c"}}]}"#,
            ),
            "xds_servers[0].channel_creds[0].config.private_key_file: is missing beside certificate_file",
        ),
    ] {
        assert_eq!(error(text), format!("gRPC bootstrap: {expected}"), "{text}");
    }
    let insecure = r#""xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "insecure"}]}]"#;
    for (field, expected) in [
        (r#""node": {"idd": "x"}"#, "node: "),
        (r#""authorities": {"x": {"client_listener_resource_name_template": "%s"}}"#, "authorities[\"x\"].client"),
        (
            r#""authorities": {"x": {"xds_servers": [{"server_uri": "b:1", "channel_creds": [{"type": "insecure"}]}]}}"#,
            "authorities[\"x\"].xds_servers: other servers than those of the bootstrap are not supported",
        ),
        (
            r#""certificate_providers": {"p": {"plugin_name": "mesh_ca"}}"#,
            "certificate_providers[\"p\"].plugin_name: mesh_ca: not supported, only file_watcher is",
        ),
        (
            r#""certificate_providers": {"p": {"plugin_name": "file_watcher", "config": {"refresh_interval": "0s"}}}"#,
            "certificate_providers[\"p\"].config.refresh_interval: \"0s\" is not a duration above 0",
        ),
    ] {
        let error = error(&format!("{{{insecure}, {field}}}"));
        assert!(error.starts_with(&format!("gRPC bootstrap: {expected}")), "{error}");
    }
}
