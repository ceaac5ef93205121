//! Services of Kubernetes and their endpoints.

use super::*;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\n\
                       spec: {selector: {app: reviews}, ports: [{port: 80, name: http, targetPort: 9080}]}\n---\n";

/// An EndpointSlice of `reviews` with these endpoints.
fn slice(name: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: reviews}}}}\naddressType: IPv4\nports: {ports}\nendpoints: {endpoints}\n---\n"
    )
}

fn deployment(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec: {{replicas: x, template: {{metadata: \
         {{labels: {labels}}}, spec: {{containers: []}}}}}}\n---\n"
    )
}

fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: reviews, version: {name}}}}}\n{more}\n---\n"
    )
}

/// `ADDRESS {PORT: TARGET} VERSION LOCALITY` of the endpoints of `reviews`, in a configuration without errors.
#[track_caller]
fn endpoints(text: &str) -> Vec<String> {
    let loaded = load(&[("x.yaml", text)]);
    assert!(loaded.is_valid(), "{text}\n{:#?}", loaded.diagnostics);
    let services = loaded.mesh.registry.services();
    let service = services.iter().find(|service| service.host.as_str().starts_with("reviews.")).unwrap();
    let endpoints = service.endpoints.iter().map(|endpoint| {
        let version = endpoint.labels.get("version").map_or("-", String::as_str);
        format!("{} {:?} {version} {}", endpoint.address, endpoint.ports, endpoint.locality).trim_end().to_owned()
    });
    endpoints.collect()
}

const HTTP: &str = "[{name: http, port: 9080}]";

#[test]
fn endpoint_slices_give_addresses_that_are_ready() {
    let items = "[{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: [10.0.0.3], conditions: {ready: false}}, \
                 {addresses: [10.0.0.4], conditions: {ready: true, x: y}}, {addresses: [10.0.0.5], conditions: {ready: null}}]";
    let text = SERVICE.to_owned() + &slice("a", HTTP, items);
    let expected = ["10.0.0.1 {80: 9080} -", "10.0.0.2 {80: 9080} -", "10.0.0.4 {80: 9080} -", "10.0.0.5 {80: 9080} -"];
    assert_eq!(endpoints(&text), expected);
    let all = text.replace("spec: {selector", "spec: {publishNotReadyAddresses: true, selector");
    assert_eq!(endpoints(&all).len(), 5);
}

#[test]
fn an_address_in_several_sets_is_one_endpoint_unless_its_ports_differ() {
    let service = SERVICE.replace("targetPort: 9080}", "targetPort: 9080}, {port: 81, name: grpc}");
    let one = "[{addresses: [10.0.0.1]}]";
    let old = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: reviews}\nsubsets: [{addresses: [{ip: 10.0.0.1}], \
               notReadyAddresses: [{ip: 10.0.0.9}], ports: [{name: http, port: 9080, protocol: TCP}]}]\n---\n";
    let text = service + &slice("a", HTTP, one) + &slice("b", "[{name: grpc, port: 9081}]", one) + old;
    assert_eq!(endpoints(&text), ["10.0.0.1 {80: 9080, 81: 9081} -"]);
    let other = text + &slice("c", "[{name: http, port: 9090}]", one);
    assert_eq!(endpoints(&other), ["10.0.0.1 {80: 9080, 81: 9081} -", "10.0.0.1 {80: 9090} -"]);
}

#[test]
fn labels_and_locality_are_those_of_the_workload_behind_an_address() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: m, labels: {topology.kubernetes.io/region: eu, \
                topology.kubernetes.io/zone: eu-1}}\n---\n";
    let pods = pod("v1", "spec: {nodeName: m}\nstatus: {podIP: 10.0.0.1}")
        + &pod("v2", "status: {podIPs: [{ip: 10.0.0.2}]}")
            .replace("app: reviews", "app: reviews, istio-locality: us.us-1");
    let versions = deployment("reviews-v3", "{app: reviews, version: v3}")
        + &deployment("reviews", "{app: reviews, version: v0}")
        + &deployment("other-v9", "{app: other, version: v9}");
    let items = "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.9], targetRef: {kind: Pod, name: v2}}, \
                 {addresses: [10.0.0.3], targetRef: {kind: Pod, name: reviews-v3-545db77b95-2wk8d}, zone: eu-1}, \
                 {addresses: [10.0.0.4], targetRef: {kind: Pod, name: other-v9-545db77b95-2wk8d}, zone: z}, \
                 {addresses: [10.0.0.5], nodeName: m}]";
    assert_eq!(
        endpoints(&(SERVICE.to_owned() + &slice("a", HTTP, items) + node + &pods + &versions)),
        [
            "10.0.0.1 {80: 9080} v1 eu/eu-1",
            "10.0.0.9 {80: 9080} v2 us/us-1",
            "10.0.0.3 {80: 9080} v3 eu/eu-1",
            "10.0.0.4 {80: 9080} - /z",
            "10.0.0.5 {80: 9080} - eu/eu-1",
        ]
    );
    // The only workload of a service is behind all its addresses.
    let only = deployment("a", "{app: reviews, version: v7}") + &deployment("b", "{app: other, version: v8}");
    let text = SERVICE.to_owned() + &slice("a", HTTP, "[{addresses: [10.0.0.1]}]") + &only;
    assert_eq!(endpoints(&text), ["10.0.0.1 {80: 9080} v7"]);
}

#[test]
fn without_a_slice_the_selected_pods_that_are_ready_are_the_endpoints() {
    let named = SERVICE.replace("targetPort: 9080", "targetPort: web");
    let ports =
        "spec: {containers: [{ports: [{name: dns, containerPort: 1, protocol: UDP}, {name: web, containerPort: 7}]}]}";
    let pods =
        pod("v1", &format!("{ports}\nstatus: {{podIP: 10.0.0.1, conditions: [{{type: Ready, status: 'True'}}]}}"))
            + &pod(
                "v2",
                &format!("{ports}\nstatus: {{podIP: 10.0.0.2, conditions: [{{type: Ready, status: 'False'}}]}}"),
            )
            + &pod("v3", &format!("{ports}\nstatus: {{podIP: 10.0.0.3, phase: Succeeded}}"))
            + &pod("v4", &format!("{ports}\nstatus: {{podIP: 10.0.0.4, phase: Pending}}"))
            + &pod("v5", ports)
            + &pod("v6", "status: {podIP: 10.0.0.6}")
            + &pod("v7", &format!("{ports}\nstatus: {{podIP: 10.0.0.7}}")).replace("app: reviews", "app: other");
    assert_eq!(endpoints(&(named + &pods)), ["10.0.0.1 {80: 7} v1", "10.0.0.6 {} v6"]);
    assert_eq!(endpoints(&(SERVICE.to_owned() + &pods))[1], "10.0.0.6 {80: 9080} v6");
}

#[test]
fn a_service_selects_workload_entries_too() {
    let entry =
        |name: &str, spec: &str| resource("WorkloadEntry", spec).replace("name: x", &format!("name: {name}")) + "---\n";
    let text = SERVICE.to_owned()
        + &entry("a", "{address: 10.0.0.1, labels: {app: reviews, version: v1}}")
        + &entry("b", "{address: 10.0.0.2, labels: {app: reviews, version: v2}, ports: {http: 7}, locality: eu}")
        + &entry("c", "{address: 10.0.0.3, labels: {app: other}}");
    assert_eq!(endpoints(&text), ["10.0.0.1 {80: 9080} v1", "10.0.0.2 {80: 7} v2 eu"]);
}

#[test]
fn an_external_name_is_a_service_outside_of_the_mesh_or_an_alias_of_one_inside() {
    let external = |name: &str, target: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: {target}, \
             ports: [{{port: 80, name: http}}]}}\n---\n"
        )
    };
    let text = SERVICE.to_owned()
        + &external("outside", "api.example.com")
        + &external("other", "alias.default.svc.cluster.local")
        + &external("alias", "reviews.default.svc.cluster.local")
        + &external("circle", "circle.default.svc.cluster.local");
    let loaded = load(&[("x.yaml", &text)]);
    let find = |name: &str| {
        let host = crate::host::Host::parse(name, "default").unwrap();
        loaded.mesh.registry.find(&host, "default").map(|service| service.host.to_string())
    };
    assert_eq!(find("alias").unwrap(), "reviews.default.svc.cluster.local");
    assert_eq!(find("other").unwrap(), "reviews.default.svc.cluster.local");
    assert_eq!(find("circle"), None);
    assert_eq!(find("outside").unwrap(), "outside.default.svc.cluster.local");
    let outside = loaded.mesh.registry.services().last().unwrap();
    assert_eq!(outside.endpoints[0].address, "api.example.com");
    assert_eq!(outside.location, config::Location::MeshExternal);
    let messages: Vec<_> = loaded.diagnostics.iter().map(|found| found.message.as_str()).collect();
    assert!(
        messages.iter().any(|message| message.contains("circle.default.svc.cluster.local stands for itself")),
        "{messages:?}"
    );
}

#[test]
fn the_annotation_export_to_limits_who_sees_a_service() {
    let text =
        SERVICE.replace("{name: reviews}", "{name: reviews, annotations: {networking.istio.io/exportTo: 'a, .'}}");
    let loaded = load(&[("x.yaml", &text)]);
    let service = &loaded.mesh.registry.services()[0];
    let visible = ["a", "default", "b"].map(|namespace| service.is_visible_to(namespace));
    assert_eq!(visible, [true, true, false]);
}

#[test]
fn lists_of_objects_and_ports_that_are_not_for_tcp_are_read() {
    let text = "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: dns}\n  spec: {clusterIP: None, ports: \
                [{port: 53, name: dns, protocol: UDP}, {port: 53, name: dns-tcp, protocol: TCP}]}\n";
    let loaded = load(&[("x.yaml", text)]);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    let service = &loaded.mesh.registry.services()[0];
    assert_eq!((service.ports.len(), service.ports[0].name.as_str()), (1, "dns-tcp"));
    assert!(service.addresses.is_empty());
}

#[test]
fn mistakes_in_objects_of_kubernetes_are_refused_with_their_place() {
    let slice = slice("a", HTTP, "[{addresses: [127.0.0.1]}]");
    for (text, right, wrong, expected) in [
        (
            SERVICE,
            "port: 80",
            "port: '80'",
            "IST0106 4 `'80'` spec.ports[0].port: expected an integer, found the string",
        ),
        (SERVICE, "port: 80", "port: 70000", "IST0106 4 `70000` spec.ports[0].port: 70000 is out of range"),
        (SERVICE, "port: 80, ", "", "IST0106 4 `{` spec.ports[0].port: port is missing"),
        (SERVICE, "name: http", "name: 1", "IST0106 4 `1` spec.ports[0].name: expected a string, found the number 1"),
        (
            SERVICE,
            "name: http",
            "name: http, protocol: HTTP",
            "IST0106 4 `HTTP` spec.ports[0].protocol: \"HTTP\" is not",
        ),
        (SERVICE, "name: http", "appProtocol: [a]", "IST0106 4 `[` spec.ports[0].appProtocol: expected a string"),
        (SERVICE, "9080", "'9080'", "IST0106 4 `'9080'` spec.ports[0].targetPort: \"9080\" is not the name of a port"),
        (SERVICE, "9080}", "9080}, {port: 81}", "IST0106 4 `81` spec.ports[1].name: the port has no name"),
        (SERVICE, "9080}", "9080}, {port: 80, name: b}", "IST0106 4 `80` spec.ports[1].port: port 80 is listed twice"),
        (SERVICE, "{app: reviews}", "[app]", "IST0106 4 `[` spec.selector: expected an object, found a list"),
        (SERVICE, "spec: {", "spec: {clusterIP: 1.2.3, ", "IST0106 4 `1.2.3` spec.clusterIP: \"1.2.3\" is not an IP"),
        (SERVICE, "spec: {", "spec: {type: ExternalName, ", "IST0106 4 `{` spec.externalName: externalName is missing"),
        (
            SERVICE,
            "name: reviews",
            "name: re.views",
            "IST0106 3 `re.views` metadata.name: \"re.views\" cannot be the name",
        ),
        (
            SERVICE,
            "{name: reviews}",
            "{name: reviews, annotations: {networking.istio.io/exportTo: 'a,B'}}",
            "IST0106 3 `'a,B'` metadata.annotations.networking.istio.io/exportTo: \"B\" is not a namespace",
        ),
        (
            &slice,
            "127.0.0.1",
            "localhost",
            "IST0106 6 `localhost` endpoints[0].addresses[0]: \"localhost\" is not an IP",
        ),
        (&slice, "127.0.0.1", "'::1'", "IST0106 6 `'::1'` endpoints[0].addresses: ::1 is an address of the other type"),
        (&slice, "[127.0.0.1]", "[]", "IST0106 6 `addresses` endpoints[0].addresses: addresses is empty"),
        (&slice, "addressType: IPv4", "x: y", "IST0106 1 `a` addressType: addressType is missing"),
        (&slice, "IPv4", "FQDN", "MESH0003 4 `FQDN` addressType: FQDN is not supported yet"),
        (&slice, "port: 9080", "port: web", "IST0106 5 `web` ports[0].port: expected an integer, found the string"),
    ] {
        assert!(text.contains(right), "{right}");
        let text = text.replacen(right, wrong, 1);
        let loaded = load(&[("x.yaml", &text)]);
        let errors = loaded.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        let found: Vec<_> = errors.map(finding).collect();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\n gave {found:#?}\n expected {expected}");
    }
}

/// The warnings about a configuration without errors.
fn warnings(text: &str) -> Vec<String> {
    let loaded = load(&[("x.yaml", text)]);
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    loaded.diagnostics.iter().map(finding).collect()
}

#[test]
fn a_service_without_addresses_is_told_how_to_get_some_and_the_advice_works() {
    let loaded = load(&[("x.yaml", SERVICE)]);
    let [warning] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
    assert_eq!(finding(warning), "MESH0008 3 `reviews` : reviews.default.svc.cluster.local has no address");
    assert_eq!(warning.help.len(), 2);
    for help in &warning.help {
        let yaml = &help[help.find('{').unwrap()..];
        assert_eq!(endpoints(&format!("{SERVICE}{yaml}\n")).len(), 1, "{yaml}");
        assert_eq!(warnings(&format!("{SERVICE}{yaml}\n")), Vec::<String>::new(), "{yaml}");
    }
}

#[test]
fn parts_without_effect_give_warnings() {
    let undeclared = SERVICE.replace("name: http", "name: web");
    let address = "[{addresses: [10.0.0.1]}]";
    let rule = resource("DestinationRule", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}");
    let workload = deployment("a", "{app: reviews, version: v1}");
    let count = |text: &str, code: &str| warnings(text).iter().filter(|found| found.starts_with(code)).count();
    assert_eq!(count(&undeclared, "IST0118 4 `80` spec.ports: nothing says what is spoken on port 80"), 1);
    let slice_of = |ports: &str| SERVICE.to_owned() + &slice("a", ports, address);
    let nameless = "Service default/reviews has no port without a name";
    assert_eq!(count(&slice_of("[{port: 1}]").replacen(SERVICE, "", 1), "IST0101 3 `a` : there is no Service"), 1);
    assert_eq!(warnings(&slice_of("[{port: 1}]")).len(), 1);
    assert!(warnings(&slice_of("[{port: 1}]"))[0].contains(nameless));
    assert_eq!(count(&slice_of("[]"), "MESH0006 "), 1);
    let unnamed = slice("a", HTTP, address).replace("kubernetes.io/service-name", "x");
    assert_eq!(
        count(&(SERVICE.to_owned() + &unnamed), "MESH0006 8 `a` metadata.labels: the slice names no Service"),
        1
    );
    // A subset needs a workload, and an address if the service has any.
    assert_eq!(count(&(SERVICE.to_owned() + &rule), "IST0173"), 1);
    assert_eq!(count(&(SERVICE.to_owned() + &workload + &rule), "IST0173"), 0);
    assert_eq!(count(&(SERVICE.to_owned() + &workload.replace("version: v1", "version: v2") + &rule), "IST0173"), 1);
    assert_eq!(count(&(slice_of(HTTP) + &rule), "IST0173"), 1);
    assert_eq!(count(&(slice_of(HTTP) + &workload + &rule), "IST0173"), 0);
    let cron = workload.replace("apps/v1", "batch/v1").replace("Deployment", "CronJob");
    let cron = cron.replace("spec: {replicas: x, ", "spec: {jobTemplate: {spec: {").replace("[]}}}", "[]}}}}}");
    assert_eq!(count(&(SERVICE.to_owned() + &cron + &rule), "IST0173"), 0);
}
