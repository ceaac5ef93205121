#!/usr/bin/env python3
"""A gRPC library, as client and as server, against `mesh-control serve`.  Exit code 0 = all held.

  python grpc_clients.py --rig RIG --control target/debug/mesh-control

RIG has echo.py; the Python needs its requirements.txt. The library is gRPC C-core, or that of the program `--program`, whose interface is that
of echo.py.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from control_plane import Checks, ControlPlane, free_port, until

HOST = "echo.default.svc.cluster.local"
TARGET = f"xds:///{HOST}:7070"


def entry(ports, account="server"):
    lines = "".join(f"  - {{address: 127.0.0.1, ports: {{grpc: {p}}}, serviceAccount: {account}, labels: "
                    f"{{app: echo, version: v{i}}}}}\n" for i, p in enumerate(ports, 1))
    return f"""apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo, namespace: default}}
spec:
  hosts: [{HOST}]
  ports: [{{number: 7070, name: grpc, protocol: GRPC}}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints:
{lines}"""


def rule(policy="loadBalancer: {simple: ROUND_ROBIN}", subsets=""):
    return f"""---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: echo, namespace: default}}
spec: {{host: {HOST}, trafficPolicy: {{{policy}}}{subsets}}}
"""


PLAIN = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: mesh, namespace: default}\nspec: {mtls: {mode: DISABLE}}\n"
STRICT = PLAIN.replace("DISABLE", "STRICT")
SUBSETS = ", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]"


def routes(spec):
    return f"""---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo, namespace: default}}
spec: {{hosts: [{HOST}], http: [{{{spec}}}]}}
"""


def denial(account):
    return f"""---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: echo, namespace: default}}
spec: {{action: DENY, rules: [{{from: [{{source: {{principals: ["cluster.local/ns/default/sa/{account}"]}}}}]}}]}}
"""


class Rig:
    def __init__(self, rig, control, folder, program=None):
        self.program = [os.path.abspath(program)] if program else [sys.executable, rig + "/echo.py"]
        self.echo, self.control, self.folder, self.children = rig + "/echo.py", control, folder, []

    def bootstrap(self, name, cluster="", certificates=None, is_secure=False):
        node = {"id": f"sidecar~127.0.0.1~{name}.default~default.svc.cluster.local", "cluster": cluster,
                "metadata": {"GENERATOR": "grpc", "NAMESPACE": "default"}}
        content = {"xds_servers": [{"server_uri": self.control.addresses["grpc"],
                                    "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
                   "node": node, "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s"}
        if certificates:
            content["certificate_providers"] = {"default": {"plugin_name": "file_watcher", "config": {
                "certificate_file": certificates + "/cert-chain.pem", "private_key_file": certificates + "/key.pem",
                "ca_certificate_file": certificates + "/root-cert.pem", "refresh_interval": "1s"}}}
        if is_secure:
            content["xds_servers"][0].update(server_uri=f"localhost:{self.control.port('secure_grpc')}", channel_creds=[{
                "type": "tls", "config": {"ca_certificate_file": certificates + "/root-cert.pem",
                                          "certificate_file": certificates + "/cert-chain.pem",
                                          "private_key_file": certificates + "/key.pem"}}])
        path = f"{self.folder}/{name}.json"
        with open(path, "w") as f:
            json.dump(content, f)
        return path

    def spawn(self, bootstrap, *arguments):
        env = dict(os.environ, GRPC_XDS_BOOTSTRAP=bootstrap)
        is_of_xds = arguments[0] == "call" or "--xds" in arguments
        command = self.program if is_of_xds else [sys.executable, self.echo]
        child = subprocess.Popen([*command, *arguments], env=env, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.children.append(child)
        return child

    def serve(self, name, address="127.0.0.1:0", bootstrap="/nonexistent", *flags):
        return json.loads(self.spawn(bootstrap, "serve", address, name, *flags).stdout.readline())["port"]

    def call(self, bootstrap, n, *flags):
        return self.result(self.spawn(bootstrap, "call", TARGET, str(n), *flags))

    def result(self, child):
        out, err = child.communicate(timeout=60)
        try:
            return json.loads(out)
        except ValueError:
            return {"answers": {}, "errors": {"crash": err[-1500:]}, "sample": None}

    def end(self):
        for child in self.children:
            child.terminate()
            child.wait(10)


def client_checks(rig, check):
    control = rig.control
    ports = [rig.serve("a"), rig.serve("b")]
    control.write(entry(ports) + rule() + PLAIN)
    boot = rig.bootstrap("client")
    time.sleep(0.5)
    r = rig.call(boot, 40)
    check("a client calls both endpoints in turn", not r["errors"] and min(r["answers"].get(n, 0) for n in "ab") > 14, r)

    child = rig.spawn(boot, "call", TARGET, "700", "--gap-ms", "20")
    found = until(lambda: HOST in control.get("/debug/loads"), 25)
    check("load is reported", found and HOST in control.get("/debug/loads"), control.get("/debug/loads"))
    status = json.loads(control.get("/debug/syncz"))[0]
    kinds = ("listener", "route", "cluster", "endpoint")
    check("all types are acknowledged", all(status[k + "_acked"] == status[k + "_sent"] for k in kinds), status)
    child.terminate()

    child = rig.spawn(boot, "call", TARGET, "150", "--gap-ms", "20")
    time.sleep(1.5)
    control.write(entry(ports[1:]) + rule() + PLAIN)
    r = rig.result(child)
    check("an endpoint is removed under load without an error", not r["errors"] and r["answers"]["b"] >
          r["answers"].get("a", 0) > 0, r)

    control.write(entry(ports) + rule(subsets=SUBSETS) + PLAIN + routes(
        f"route: [{{destination: {{host: {HOST}, subset: v1}}, weight: 100}}, {{destination: {{host: {HOST}, subset: v2}}, weight: 0}}]"))
    time.sleep(0.5)
    r = rig.call(boot, 20)
    check("all requests go to the subset with the weight", r["answers"] == {"a": 20}, r)

    child = rig.spawn(boot, "call", TARGET, "150", "--gap-ms", "20")
    time.sleep(1.5)
    control.write(entry(ports) + rule(subsets=SUBSETS) + PLAIN + routes(f"route: [{{destination: {{host: {HOST}, subset: v2}}}}]"))
    r = rig.result(child)
    check("requests move to another subset without an error", not r["errors"] and len(r["answers"]) == 2, r)

    control.write(entry(ports) + rule() + PLAIN + routes(
        f"fault: {{abort: {{httpStatus: 503, percentage: {{value: 100}}}}}}, route: [{{destination: {{host: {HOST}}}}}]"))
    time.sleep(0.5)
    r = rig.call(boot, 5, "--no-wait")
    check("a fault is injected", not r["answers"], r)

    control.write(entry(ports) + rule() + PLAIN)
    time.sleep(0.5)
    child = rig.spawn(boot, "call", TARGET, "400", "--gap-ms", "20")
    time.sleep(1.5)
    control.write(entry(["none"]) + PLAIN)
    time.sleep(0.5)
    control.stop()
    time.sleep(0.3)
    control.write(entry(ports[:1]) + rule() + PLAIN)
    control.start()
    r = rig.result(child)
    check("files with errors and a restart of the control plane are no errors of calls", not r["errors"] and r["answers"]["a"] >
          r["answers"]["b"] + 20, r)
    check("the files with errors were reported", control.logged("refused, the last good one"))


def server_checks(rig, check, port):
    control = rig.control
    server = rig.bootstrap("server", "echo.default", control.issue("server"), is_secure=True)
    client = rig.bootstrap("caller", "", control.issue("client"))
    address = f"127.0.0.1:{port}"
    control.write(entry([port]) + rule() + PLAIN)
    time.sleep(0.5)
    rig.serve("xs", address, server, "--xds")
    r = rig.call(client, 3)
    check("a server gets its listener, in plain text", r["answers"] == {"xs": 3}, r)

    tls = rule("tls: {mode: ISTIO_MUTUAL}")
    control.write(entry([port]) + tls + STRICT)
    time.sleep(0.5)
    r = rig.call(client, 3, "--xds-creds")
    check("mutual TLS between a client and a server", r["answers"] == {"xs": 3} and r["sample"]["peer_sans"] == [
        "spiffe://cluster.local/ns/default/sa/client"], r)
    r = rig.call(client, 1, "--no-wait", "--timeout", "3")
    check("the server refuses plain text", not r["answers"], r)

    control.write(entry([port], "other") + tls + STRICT)
    time.sleep(0.5)
    r = rig.call(client, 1, "--xds-creds", "--timeout", "3")
    check("the client refuses another identity of the server", not r["answers"], r)

    control.write(entry([port]) + tls + STRICT + denial("client"))
    time.sleep(0.5)
    r = rig.call(client, 3, "--xds-creds")
    check("a policy denies the client", not r["answers"] and ("PERMISSION_DENIED" in str(r["errors"]) or "PermissionDenied" in str(r["errors"])), r)
    control.write(entry([port]) + tls + STRICT + denial("somebody"))
    time.sleep(0.5)
    r = rig.call(client, 3, "--xds-creds")
    check("a policy about others does not", r["answers"] == {"xs": 3}, r)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rig", required=True)
    parser.add_argument("--program")
    parser.add_argument("--control", default="target/debug/mesh-control")
    a = parser.parse_args()
    check = Checks()
    with tempfile.TemporaryDirectory() as folder:
        control = ControlPlane(os.path.abspath(a.control), folder, entry([1]))
        rig = Rig(os.path.abspath(a.rig), control, folder, a.program)
        try:
            client_checks(rig, check)
            server_checks(rig, check, free_port())
            check("nothing was rejected", not control.rejects(), [control.rejects(), control.logged("rejected")])
        finally:
            rig.end()
            control.stop()
    check.end()


if __name__ == "__main__":
    main()
