#!/usr/bin/env python3
"""A real Envoy as a sidecar of `mesh-control serve`: state of the world, then incremental.  Exit code 0 = all held.

  python envoy_proxy.py --rig RIG --control target/debug/mesh-control --envoy ENVOY

The Envoy authenticates with a certificate of the authority, and gets its own certificates over the same stream. RIG has echo.py; the
Python needs its requirements.txt.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import grpc

from control_plane import Checks, ControlPlane, free_port, until

HOST = "echo.default.svc.cluster.local"


def resources(port, inner, backend, account="echo", timeout="10s", strict=True):
    """Calls to `port` go to the service by mutual TLS, to `inner`, and from there to the backend."""
    return f"""apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo, namespace: default}}
spec:
  hosts: [{HOST}]
  ports: [{{number: {port}, name: grpc, protocol: GRPC, targetPort: {inner}}}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, serviceAccount: {account}, labels: {{app: echo}}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: echo, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: echo}}}}
  ingress: [{{port: {{number: {inner}, name: grpc, protocol: GRPC}}, bind: 127.0.0.1, defaultEndpoint: "127.0.0.1:{backend}"}}]
  egress: [{{port: {{number: {port}, name: grpc, protocol: GRPC}}, bind: 127.0.0.1, hosts: ["./*"]}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: echo, namespace: default}}
spec: {{host: {HOST}, trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {timeout}}}}}}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: default}}
spec: {{mtls: {{mode: {"STRICT" if strict else "DISABLE"}}}}}
"""


def gateway(port, backend):
    return f"""apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo, namespace: default}}
spec:
  hosts: [{HOST}]
  ports: [{{number: 80, name: grpc, protocol: GRPC, targetPort: {backend}}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: default}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: grpc, protocol: GRPC}}, bind: 127.0.0.1, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: edge, namespace: default}}
spec: {{hosts: ["*"], gateways: [edge], http: [{{route: [{{destination: {{host: {HOST}}}}}]}}]}}
"""


def call(port, n, authority):
    """Who has answered; errors count by their code."""
    answers = {}
    options = (("grpc.default_authority", authority), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        say = channel.unary_unary("/rig.Echo/Say", lambda b: b, lambda b: b)
        for i in range(n):
            try:
                who = json.loads(say(b"m", timeout=5, wait_for_ready=i == 0))["by"]
            except grpc.RpcError as e:
                who = f"{e.code().name} {e.details()}"
            answers[who] = answers.get(who, 0) + 1
    return answers


def bootstrap(control, api_type, node, certificates):
    data = lambda name: {"filename": f"{certificates}/{name}"}  # noqa: E731
    tls = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
           "sni": "istiod.istio-system.svc", "common_tls_context": {
               "tls_certificates": [{"certificate_chain": data("cert-chain.pem"), "private_key": data("key.pem")}],
               "validation_context": {"trusted_ca": data("root-cert.pem"), "match_typed_subject_alt_names": [
                   {"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}]},
               "alpn_protocols": ["h2"]}}
    http2 = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
             "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": control.port("secure_grpc")}}}
    return {
        "node": node,
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {"api_type": api_type, "transport_api_version": "V3", "set_node_on_first_message_only": True,
                           "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"}},
        "static_resources": {"clusters": [{
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]}}]}}


class Envoy:
    def __init__(self, program, folder, config, name):
        self.path = f"{folder}/{name}.json"
        with open(self.path, "w") as f:
            json.dump(config, f)
        self.log = open(self.path + ".log", "w")
        self.child = subprocess.Popen([program, "-c", self.path, "--concurrency", "1", "--use-dynamic-base-id",
                                       "--admin-address-path", self.path + ".admin", "--log-level", "warning"],
                                      stdout=self.log, stderr=self.log)

    def admin(self):
        with open(self.path + ".admin") as f:
            return f.read().strip()

    def stats(self, what):
        url = f"http://{self.admin()}/stats?filter={what}&format=json"
        with urllib.request.urlopen(url, timeout=5) as r:
            return {x["name"]: x["value"] for x in json.load(r)["stats"] if "name" in x}

    def stop(self):
        self.child.terminate()
        self.child.wait(20)
        self.log.close()

    def complaints(self):
        with open(self.path + ".log") as f:
            return [line[:300].strip() for line in f][:6]


def sidecar(control, rig, envoy_program, check, api_type):
    sys.path.insert(0, rig)
    import echo
    backend, backend_port = echo.make_server("127.0.0.1:0", "backend")
    other, other_port = echo.make_server("127.0.0.1:0", "other")
    port, inner = free_port(), free_port()
    authority = f"{HOST}:{port}"
    control.write(resources(port, inner, backend_port))
    node = {"id": "sidecar~127.0.0.1~echo-1.default~default.svc.cluster.local", "cluster": "echo.default",
            "metadata": {"NAMESPACE": "default", "INTERCEPTION_MODE": "NONE", "LABELS": {"app": "echo"}}}
    time.sleep(0.5)
    envoy = Envoy(envoy_program, control.folder, bootstrap(control, api_type, node, control.issue("echo")), api_type)
    try:
        r = call(port, 5, authority)
        check(f"{api_type}: a call passes mutual TLS with certificates of the stream", r == {"backend": 5}, r)
        handshakes = envoy.stats("ssl.handshake")
        check(f"{api_type}: there were TLS handshakes", sum(handshakes.values()) >= 2, handshakes)
        control.write(resources(port, inner, other_port))
        r = until(lambda: call(port, 1, authority) == {"other": 1})
        check(f"{api_type}: a change of the workload's port moves the traffic", r)

        control.write(resources(port, inner, other_port, timeout="7s"))
        changed = until(lambda: "7s" in urllib.request.urlopen(f"http://{envoy.admin()}/config_dump").read().decode())
        warming = until(lambda: envoy.stats("cluster_manager.warming_clusters")["cluster_manager.warming_clusters"] == 0, 3)
        check(f"{api_type}: a changed cluster does not stay warming", changed and warming)

        control.write(resources(port, inner, other_port, account="somebody", timeout="7s"))
        r = until(lambda: "UNAVAILABLE" in str(call(port, 1, authority)))
        check(f"{api_type}: a server of another identity is refused", r)
        control.write(resources(port, inner, other_port, timeout="7s"))
        r = until(lambda: call(port, 1, authority) == {"other": 1})
        check(f"{api_type}: and taken again", r)

        before = envoy.stats("update_success")
        control.stop()
        r = call(port, 5, authority)
        control.write(resources(port, inner, backend_port, timeout="7s"))
        control.start()
        back = until(lambda: call(port, 1, authority) == {"backend": 1}, 20)
        check(f"{api_type}: a restart of the control plane is no error, and then the changes arrive",
              r == {"other": 5} and back, [r, before])
        rejected = {k: v for k, v in envoy.stats("update_rejected").items() if v}
        check(f"{api_type}: nothing was rejected", not rejected and not control.rejects(),
              [rejected, control.logged("rejected")[-2:]])
    finally:
        envoy.stop()
        for line in envoy.complaints():
            print("     envoy:", line)
        backend.stop(0), other.stop(0)


def edge(control, rig, envoy_program, check, api_type):
    import echo
    backend, backend_port = echo.make_server("127.0.0.1:0", "backend")
    port = free_port()
    control.write(gateway(port, backend_port))
    node = {"id": "router~127.0.0.1~edge-1.default~default.svc.cluster.local", "cluster": "edge.default",
            "metadata": {"NAMESPACE": "default", "LABELS": {"istio": "ingressgateway"}}}
    time.sleep(0.5)
    config = bootstrap(control, api_type, node, control.issue("edge"))
    envoy = Envoy(envoy_program, control.folder, config, "edge-" + api_type)
    try:
        r = call(port, 5, "anything.example")
        check(f"{api_type}: a gateway serves", r == {"backend": 5}, r)
        rejected = {k: v for k, v in envoy.stats("update_rejected").items() if v}
        check(f"{api_type}: nothing was rejected by the gateway", not rejected, [rejected, control.logged("rejected")[-2:]])
    finally:
        envoy.stop()
        for line in envoy.complaints():
            print("     envoy:", line)
        backend.stop(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rig", required=True)
    parser.add_argument("--control", default="target/debug/mesh-control")
    parser.add_argument("--envoy", required=True)
    a = parser.parse_args()
    rig, check = os.path.abspath(a.rig), Checks()
    for api_type in ("GRPC", "DELTA_GRPC"):
        with tempfile.TemporaryDirectory() as folder:
            control = ControlPlane(os.path.abspath(a.control), folder, resources(1, 2, 3))
            try:
                sidecar(control, rig, a.envoy, check, api_type)
                edge(control, rig, a.envoy, check, api_type)
            finally:
                control.stop()
    check.end()


if __name__ == "__main__":
    main()
