//! The translation of Services of Kubernetes.

use super::{client, resource, resources};
use crate::translate::{Node, Role};

const SERVICES: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.1.1.1, ports: [{port: 80, name: http, targetPort: 8080}, {port: 81, appProtocol: kubernetes.io/h2c, name: x}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: x, port: 8081}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: api.example.com, ports: [{port: 443, name: tls}]}
";

#[test]
fn a_service_has_clusters_and_endpoints_for_its_ports() {
    let found = resources(SERVICES, &client());
    let names: Vec<_> = found.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    for name in ["outbound|80||web.shop.svc.cluster.local", "outbound|81||web.shop.svc.cluster.local"] {
        assert!(names.contains(&name), "{names:?}");
        assert!(
            found.endpoints.iter().any(|endpoints| endpoints.cluster_name == name && endpoints.endpoints.len() == 1)
        );
    }
    assert!(names.contains(&"outbound|443||outside.default.svc.cluster.local"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("alias")), "{names:?}");
    let outside = found.clusters.iter().find(|cluster| cluster.name.contains("outside")).unwrap();
    assert!(format!("{outside:?}").contains("api.example.com"), "{outside:?}");
}

#[test]
fn an_alias_has_the_routes_and_clusters_of_its_service() {
    let library = resources(SERVICES, &client());
    let listeners: Vec<_> = library.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert!(listeners.contains(&"alias.default.svc.cluster.local:80"), "{listeners:?}");
    let routes = library.routes.iter().find(|routes| routes.name == "outbound|80||web.shop.svc.cluster.local").unwrap();
    let domains = &routes.virtual_hosts[0].domains;
    for domain in ["web.shop", "10.1.1.1", "alias", "alias.default.svc.cluster.local"] {
        assert!(domains.iter().any(|known| known == domain), "{domains:?}");
    }
    let gateway = resource(
        "Gateway",
        "edge",
        "{selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
    );
    let rules = "{hosts: ['*'], gateways: [edge], http: [{route: [{destination: {host: alias, port: {number: 80}}}]}]}";
    let text = SERVICES.to_owned() + &gateway + &resource("VirtualService", "edge", rules);
    let edge = resources(&text, &Node::client(Role::Gateway, "default"));
    assert!(format!("{:?}", edge.routes).contains("\"outbound|80||web.shop.svc.cluster.local\""), "{:?}", edge.routes);
}
