//! What is no resource of a mesh: other objects of Kubernetes, and YAML that is no object at all.

use super::*;
use crate::config::Options;

fn left_alone(text: &str) -> Vec<String> {
    let loaded = load(&[("x.yaml", text)]);
    assert!(loaded.diagnostics.is_empty(), "{text:?} gave {:?}", loaded.diagnostics);
    loaded.left_alone.iter().map(ToString::to_string).collect()
}

#[test]
fn other_objects_of_kubernetes_are_left_alone_and_counted_by_kind() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '{{ .Values.y }}'}\n---\n\
                apiVersion: v1\nkind: Event\nmetadata: {name: a}\n---\n\
                apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n---\n\
                apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n---\n\
                apiVersion: gateway.example.com/v1\nkind: Gateway\nmetadata: {name: a}\n---\n\
                apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n---\n\
                apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: a}\n";
    assert_eq!(
        left_alone(text),
        [
            "ConfigMap (v1): 2 objects are left alone, the first at x.yaml:2:7",
            "Deployment (extensions/v1beta1): 1 object is left alone, at x.yaml:27:7",
            "Event (v1): 1 object is left alone, at x.yaml:7:7",
            "Gateway (gateway.example.com/v1): 1 object is left alone, at x.yaml:19:7",
            "NetworkPolicy (networking.k8s.io/v1): 1 object is left alone, at x.yaml:15:7",
            "Service (serving.knative.dev/v1): 1 object is left alone, at x.yaml:23:7",
        ]
    );
}

/// Severity, line and message of everything found in a file.
fn notes(path: &str, text: &str, refuse_others: bool) -> Vec<String> {
    let sources = [("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"), (path, text)];
    let sources = sources.into_iter().map(|(path, text)| Arc::new(Source::new(path, text))).collect();
    let loaded = Loaded::from_sources(sources, Options::default().with_refuse_others(refuse_others));
    let of_file = loaded.diagnostics.iter().filter(|found| found.position.source.path.as_os_str() == path);
    of_file.map(|found| format!("{} {}: {}", found.severity, found.position.line, found.message)).collect()
}

#[test]
fn yaml_that_is_no_object_gets_one_note_of_what_it_seems_to_be() {
    const RESOURCE: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: ";
    let helm_value = format!("{RESOURCE}{{host: '{{{{ .Values.host }}}}'}}\n");
    for (path, text, expected) in [
        ("kustomization.yaml", "resources: [a.yaml]\n", "1: this seems to be a kustomization"),
        (
            "k.yaml",
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
            "1: this seems to be a kustomization",
        ),
        ("patch.yaml", "- {op: add, path: /spec, value: 1}\n", "1: this seems to be a JSON patch"),
        ("chart/values.yaml", "image: {tag: v1}\n", "1: this seems to be values of a Helm chart"),
        ("chart/ci/test.yaml", "image: {tag: v1}\n", "1: this seems to be values of a Helm chart"),
        ("values-prod.yaml", "services: [a]\n", "1: this seems to be values of a Helm chart"),
        ("t.yaml", "{{- if .Values.on }}\nkind: Service\n{{- end }}\n", "1: this seems to be a Helm template"),
        (
            "t.yaml",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ include \"a\" . }}\n",
            "4: this seems to be a Helm",
        ),
        ("t.yaml", &helm_value, "1: this seems to be a Helm template"),
        (
            "t.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: '{{ x }}'}\n",
            "1: this seems to be a Helm template",
        ),
        ("envoy.yaml", "static_resources: {}\n", "1: this seems to be an Envoy bootstrap"),
        ("mesh.yaml", "accessLogFile: /dev/stdout\n", "1: this seems to be Istio's MeshConfig"),
        ("compose.yaml", "services: {a: {image: b}}\n", "1: this seems to be a Compose file"),
        ("api.yaml", "openapi: 3.0.0\n", "1: this seems to be an OpenAPI description"),
        ("a.yaml", "a: 1\n---\nb: 2\n", "1: this seems to be something else than a Kubernetes object"),
        ("a.json", "{\"apiVersion\": 1, \"datasources\": []}", "1: this seems to be something else"),
        ("a.yaml", "- 1\n", "1: this seems to be something else"),
        ("a.yaml", "text\n", "1: this seems to be something else"),
    ] {
        for (refuse_others, severity) in [(false, "info"), (true, "error")] {
            let found = notes(path, text, refuse_others);
            let is_expected = found.len() == 1 && found[0].starts_with(&format!("{severity} {expected}"));
            assert!(is_expected, "{path} {text:?} gave {found:?}, expected {expected:?}");
        }
    }
}

#[test]
fn what_seems_to_be_an_object_is_refused_and_no_template_is_one_without_a_placeholder() {
    for (text, expected) in [
        ("kind: Sidecar\n", "error 1: apiVersion is missing"),
        ("apiversion: v1\nkindd: Service\nmetadata: {name: a}\n", "error 1: unknown field \"apiversion\""),
        ("apiVersion: v1\nmetadata: {name: a}\n", "error 1: kind is missing"),
        ("# {{ .Values.a }}\na: [\n", "error 2: not valid YAML"),
        ("apiVersion: v1\nkind: List\nitems: {}\n", "error 3: expected a list, found an object"),
    ] {
        let found = notes("a.yaml", text, false);
        assert!(found.first().is_some_and(|found| found.starts_with(expected)), "{text:?} gave {found:?}");
    }
}

#[test]
fn resources_without_namespace_belong_to_the_chosen_one() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, name: http}]}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: other}\nspec: {ports: [{port: 80, name: tcp}]}\n";
    let source = Arc::new(Source::new("a.yaml", text));
    let loaded = Loaded::from_sources(vec![source], Options::default().with_namespace(Some("shop")));
    let hosts: Vec<_> = loaded.mesh.registry.services().iter().map(|service| service.host.to_string()).collect();
    assert_eq!(hosts, ["a.shop.svc.cluster.local", "b.other.svc.cluster.local"]);
}

#[test]
fn one_broken_document_hides_no_mistake_that_has_nothing_to_do_with_it() {
    let route = |name: &str, host: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: [{name}.example], http: [{{route: [{{destination: {{host: {host}}}}}]}}]}}\n"
        )
    };
    let routes = route("a", "gone.example") + &route("b", "kept.example") + &route("c", "kept");
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: kept}\n\
                 spec: {hosts: [kept.example, kept.default.svc.cluster.local], resolution: DNS, ports: ";
    for broken in [
        format!("{entry}[{{number: 99999, name: http, protocol: HTTP}}]}}\n"),
        format!("{entry}[{{number: 80}}]}}\n"),
        format!("{entry}[\n"),
        format!("{entry}[]}}\n").replace("ServiceEntry", "ServiceEntri"),
        format!("{entry}[]}}\n").replace("{name: kept}", "{name: kept, namespace: A B}"),
    ] {
        let found = findings(&(broken.clone() + &routes));
        let missing: Vec<_> = found.iter().filter(|found| found.starts_with("IST0101")).collect();
        let is_expected = missing.len() == 1 && missing[0].contains("no service has the host gone.example");
        assert!(is_expected && found.len() > 1, "{broken} gave {found:#?}");
    }
}

#[test]
fn the_beginning_of_a_name_gets_the_full_name_as_advice() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {ports: [{port: 80, name: tcp}]}\n---\n";
    for (kind, spec) in [
        ("VirtualService", "{hosts: [x.example], http: [{route: [{destination: {host: a.shop}}]}]}"),
        ("VirtualService", "{hosts: [x.example], http: [{route: [{destination: {host: a.shop.svc}}]}]}"),
        ("VirtualService", "{hosts: [a.shop], http: [{directResponse: {status: 200}}]}"),
        ("DestinationRule", "{host: a.shop}"),
    ] {
        let text = format!("{service}{}", resource(kind, spec));
        let help = load(&[("x.yaml", &text)]).diagnostics.into_iter().flat_map(|found| found.help);
        let help: Vec<_> = help.filter(|help| help.contains("mean")).collect();
        assert_eq!(help, ["did you mean \"a.shop.svc.cluster.local\"?"], "{kind} {spec}");
    }
    let unknown = resource("DestinationRule", "{host: b.store}");
    let help = load(&[("x.yaml", &unknown)]).diagnostics.remove(0).help;
    assert!(help[0].contains("\"b.store.svc.cluster.local\""), "{help:?}");
}
