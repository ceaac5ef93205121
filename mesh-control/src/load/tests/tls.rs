//! Mistakes in what resources say about TLS.

use super::*;
use crate::config::Options;

/// As [`findings`], in a mesh with certificates.
fn findings_with_certificates(text: &str) -> Vec<String> {
    let sources = [("mesh.yaml", MESH), ("x.yaml", text)];
    let sources = sources.into_iter().map(|(path, text)| Arc::new(Source::new(path, text))).collect();
    let loaded = Loaded::from_sources(sources, Options::default().with_certificates(true));
    loaded.diagnostics.iter().map(finding).collect()
}

#[track_caller]
fn check_all(text: &str, expected: &[&str]) {
    let found = findings_with_certificates(text);
    assert_eq!(found.len(), expected.len(), "{text}\n gave {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{text}\n gave     {found}\n expected {expected}");
    }
}

fn peer_authentication(spec: &str) -> String {
    resource("PeerAuthentication", spec).replace("networking", "security")
}

#[test]
fn peer_authentications_are_checked_as_in_istio() {
    for (spec, expected) in [
        ("{}", &[][..]),
        ("{mtls: {mode: STRICT}}", &[]),
        ("{mtls: {mode: 3}, selector: {}}", &[]),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: DISABLE}}}", &[]),
        ("{mtls: {mode: BLAH}}", &["IST0106 4 `BLAH` spec.mtls.mode: the string \"BLAH\" is not a value"]),
        ("{mtls: STRICT}", &["IST0106 4 `STRICT` spec.mtls: expected an object"]),
        (
            "{portLevelMtls: {80: {mode: STRICT}}}",
            &[
                "IST0106 4 `portLevelMtls` spec.portLevelMtls: mesh/namespace peer authentication cannot have port level mTLS",
            ],
        ),
        (
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
            &[
                "IST0106 4 `portLevelMtls` spec.portLevelMtls: port level mTLS, if defined, must have at least one element",
            ],
        ),
        (
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}, 65536: {}, x: {}}}",
            &[
                "IST0106 4 `0` spec.portLevelMtls.0: 0: port must be between 1-65535",
                "IST0106 4 `65536` spec.portLevelMtls.65536: 65536: port must be",
                "IST0106 4 `x` spec.portLevelMtls.x: \"x\" is not a port: type conversion error",
            ],
        ),
        (
            "{selector: {matchLabels: {'a*': b}}}",
            &["IST0106 4 `'a*'` spec.selector.matchLabels.a*: \"a*\" cannot be the key of a label"],
        ),
        ("{selector: {labels: {a: b}}}", &["IST0106 4 `labels` spec.selector.labels: unknown field \"labels\""]),
    ] {
        check_all(&peer_authentication(spec), expected);
    }
}

#[test]
fn policies_that_need_certificates_are_refused_without_an_authority() {
    let message = "MESH0003 4 `mtls` spec: mode STRICT needs certificates of the workloads";
    check(&peer_authentication("{mtls: {mode: STRICT}}"), message);
    check(
        &peer_authentication("{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: STRICT}}}"),
        &message.replace("mtls", "portLevelMtls"),
    );
    assert_eq!(findings(&peer_authentication("{mtls: {mode: PERMISSIVE}}")), Vec::<String>::new());
    let server = "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: ISTIO_MUTUAL}}";
    check(
        &resource("Gateway", &format!("{{servers: [{server}]}}")),
        "MESH0003 4 `{` spec.servers[0].tls: mode ISTIO_MUTUAL needs certificates",
    );
}

#[test]
fn peer_authentications_without_effect_give_warnings() {
    let policy = |name: &str, namespace: &str, spec: &str| {
        let metadata = format!("{{name: {name}, namespace: {namespace}}}");
        peer_authentication(spec).replace("{name: x}", &metadata)
    };
    let two = [policy("a", "default", "{mtls: {mode: STRICT}}"), policy("b", "default", "{mtls: {mode: DISABLE}}")];
    check_all(
        &two.join("---\n"),
        &["MESH0006 8 `b` spec.selector: PeerAuthentication default/a is older, and for the same workloads"],
    );
    check_all(
        &policy("a", "istio-system", "{selector: {matchLabels: {a: b}}}"),
        &[
            "MESH0006 3 `a` spec.selector: a policy with a selector in the root namespace istio-system selects no workload",
        ],
    );
}

#[test]
fn tls_of_destination_rules_is_checked_as_in_istio() {
    let roots = "IST0128 4 `{` spec.trafficPolicy.tls: TLS mode";
    for (tls, expected) in [
        ("{mode: SIMPLE, caCertificates: /ca.pem, sni: a.example, subjectAltNames: [a.example], caCrl: /crl}", &[][..]),
        ("{mode: MUTUAL, caCertificates: /ca.pem, clientCertificate: /c, privateKey: /k}", &[]),
        ("{mode: DISABLE, sni: a}", &[]),
        ("{mode: ISTIO_MUTUAL, sni: a, subjectAltNames: [a]}", &[]),
        ("{mode: SIMPLE}", &[roots]),
        ("{mode: SIMPLE, insecureSkipVerify: true}", &[roots]),
        (
            "{mode: MUTUAL, caCertificates: /ca.pem}",
            &[
                "IST0106 4 `{` spec.trafficPolicy.tls.clientCertificate: client certificate required for mutual tls",
                "IST0106 4 `{` spec.trafficPolicy.tls.privateKey: private key required for mutual tls",
            ],
        ),
        (
            "{mode: SIMPLE, insecureSkipVerify: true, caCertificates: /ca.pem}",
            &[
                "IST0106 4 `caCertificates` spec.trafficPolicy.tls.caCertificates: cannot specify CaCertificates or CredentialName",
            ],
        ),
        (
            "{mode: MUTUAL, credentialName: a, clientCertificate: /c}",
            &[
                "IST0101 4 `{` spec.trafficPolicy.tls: there is no Secret a",
                "IST0106 4 `clientCertificate` spec.trafficPolicy.tls.clientCertificate: cannot specify client certificates",
            ],
        ),
        (
            "{mode: ISTIO_MUTUAL, caCertificates: /ca.pem}",
            &[
                "IST0106 4 `caCertificates` spec.trafficPolicy.tls.caCertificates: caCertificates has no effect: mode ISTIO_MUTUAL",
            ],
        ),
        ("{mode: SIMPLE, credentialName: a}", &["IST0101 4 `{` spec.trafficPolicy.tls: there is no Secret a"]),
        (
            "{mode: TLS}",
            &["IST0106 4 `TLS` spec.trafficPolicy.tls.mode: the string \"TLS\" is not a value of this field"],
        ),
    ] {
        let spec = format!("{{host: two.example, trafficPolicy: {{tls: {tls}}}}}");

        let found = findings_with_certificates(&resource("DestinationRule", &spec));
        assert_eq!(found.len(), expected.len(), "{tls} gave {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{tls}\n gave     {found}\n expected {expected}");
        }
    }
    let ports = "{host: two.example, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}";
    check_all(
        &resource("DestinationRule", ports),
        &["IST0129 4 `{` spec.trafficPolicy.portLevelSettings[0].tls: TLS mode SIMPLE without caCertificates"],
    );
}

/// A Secret with what the keys say.
fn secret(name: &str, data: &str) -> String {
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {data}\n")
}

const CERTIFICATE: &str = "'-----BEGIN CERTIFICATE-----'";
const KEY: &str = "'-----BEGIN PRIVATE KEY-----'";

#[test]
fn secrets_of_gateways_are_there_and_have_what_is_needed() {
    let pair = format!("tls.crt: {CERTIFICATE}, tls.key: {KEY}");
    for (tls, data, expected) in [
        ("mode: SIMPLE", format!("{{{pair}}}"), &[][..]),
        ("mode: SIMPLE", format!("{{cert: {CERTIFICATE}, key: {KEY}}}"), &[]),
        (
            "mode: SIMPLE",
            format!("{{tls.crt: {CERTIFICATE}}}"),
            &["IST0161 4 `a` spec.servers[0].tls: Secret a has no private key"],
        ),
        ("mode: SIMPLE", "{}".to_owned(), &["IST0161 4 `a` spec.servers[0].tls: Secret a has no certificate"]),
        (
            "mode: SIMPLE",
            format!("{{tls.crt: x, tls.key: {KEY}}}"),
            &["IST0161 4 `a` spec.servers[0].tls: Secret a has a certificate"],
        ),
        ("mode: MUTUAL", format!("{{{pair}, ca.crt: {CERTIFICATE}}}"), &[]),
        ("mode: MUTUAL", format!("{{{pair}}}"), &["IST0161 4 `a` spec.servers[0].tls: Secret a has no roots"]),
        (
            "mode: OPTIONAL_MUTUAL, caCertCredentialName: other",
            format!("{{{pair}}}"),
            &["IST0101 4 `a` spec.servers[0].tls: there is no Secret other"],
        ),
    ] {
        let server = format!(
            "{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.example], tls: {{{tls}, credentialName: a}}}}"
        );
        check_all(&(resource("Gateway", &format!("{{servers: [{server}]}}")) + &secret("a", &data)), expected);
    }
    let own_roots = secret("a", &format!("{{{pair}}}")) + &secret("a-cacert", &format!("{{cacert: {CERTIFICATE}}}"));
    let server = "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: MUTUAL, credentialName: a}}";
    check_all(&(resource("Gateway", &format!("{{servers: [{server}]}}")) + &own_roots), &[]);
}

#[test]
fn a_secret_that_is_not_base64_is_reported_without_its_value() {
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {tls.key: 'not base64!'}}\n";
    let loaded = load(&[("x.yaml", text)]);
    let [found] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
    let shown = found.render(diagnostic::Style::Plain);
    assert!(shown.contains("data.tls.key of Secret default/a") && !shown.contains("not base64!"), "{shown}");
}

#[test]
fn tls_of_gateways_is_checked_as_in_istio() {
    let files = "serverCertificate: /c, privateKey: /k";
    let at = "IST0106 4 `";
    for (tls, expected) in [
        (format!("mode: SIMPLE, {files}, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3"), vec![]),
        (format!("mode: MUTUAL, {files}, caCertificates: /ca, subjectAltNames: [a], verifyCertificateHash: [ab]"), vec![]),
        ("mode: SIMPLE, tlsCertificates: [{serverCertificate: /c, privateKey: /k}, {serverCertificate: /d, privateKey: /l}]".into(), vec![]),
        ("mode: ISTIO_MUTUAL, subjectAltNames: [a]".into(), vec![]),
        (
            "mode: SIMPLE".into(),
            vec!["{` spec.servers[0].tls.serverCertificate: SIMPLE TLS requires a server certificate", "{` spec.servers[0].tls.privateKey: SIMPLE TLS requires a private key"],
        ),
        (format!("mode: MUTUAL, {files}"), vec!["{` spec.servers[0].tls.caCertificates: MUTUAL TLS requires a client CA bundle"]),
        (format!("mode: SIMPLE, {files}, subjectAltNames: [a]"), vec!["subjectAltNames` spec.servers[0].tls.subjectAltNames: subjectAltNames needs certificates of clients"]),
        (format!("mode: SIMPLE, {files}, caCertificates: /ca"), vec!["caCertificates` spec.servers[0].tls.caCertificates: caCertificates has no effect: clients are not asked"]),
        (format!("mode: ISTIO_MUTUAL, {files}"), vec!["serverCertificate` spec.servers[0].tls.serverCertificate: ISTIO_MUTUAL TLS cannot have associated server certificate", "privateKey` spec.servers[0].tls.privateKey: ISTIO_MUTUAL TLS cannot have associated private key"]),
        (format!("mode: SIMPLE, {files}, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2"), vec!["TLSV1_3` spec.servers[0].tls.minProtocolVersion: minProtocolVersion is newer than"]),
        (format!("mode: SIMPLE, {files}, cipherSuites: [ROT13, AES128-SHA, AES128-SHA]"), vec!["ROT13` spec.servers[0].tls.cipherSuites[0]: ignoring invalid cipher suites", "AES128-SHA` spec.servers[0].tls.cipherSuites[2]: ignoring duplicate cipher suites"]),
        ("mode: SIMPLE, credentialNames: [a, b, c]".into(), vec!["credentialNames` spec.servers[0].tls.credentialNames: credentialNames has 3 items: at most 2"]),
    ] {
        let server = format!("{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.example], tls: {{{tls}}}}}");
        let expected: Vec<_> = expected.into_iter().map(|line| format!("{at}{line}")).collect();
        let secrets: String =
            ["a", "b", "c"].map(|name| secret(name, &format!("{{cert: {CERTIFICATE}, key: {KEY}}}"))).concat();
        let found = findings_with_certificates(&(resource("Gateway", &format!("{{servers: [{server}]}}")) + &secrets));
        assert_eq!(found.len(), expected.len(), "{tls} gave {found:#?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.starts_with(expected), "{tls}\n gave     {found}\n expected {expected}");
        }
    }
}
