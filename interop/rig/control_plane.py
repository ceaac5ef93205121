"""`mesh-control serve` as a child process, on ports of its own."""
import json
import os
import re
import socket
import subprocess
import time
import urllib.request


class ControlPlane:
    """A control plane whose configuration is `config.yaml` in `folder`, and whose authority is in `folder`/ca."""

    def __init__(self, program, folder, config):
        self.program, self.folder = program, folder
        self.ca, self.directory = folder + "/ca", folder + "/config"
        os.makedirs(self.directory, exist_ok=True)
        self.write(config)
        if not os.path.exists(self.ca):
            self.tool("ca", "init", self.ca)
        self.addresses = {k: "127.0.0.1:0" for k in ("grpc", "secure_grpc", "http")}
        self.start()

    def tool(self, *arguments):
        subprocess.run([self.program, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=30)

    def start(self):
        flags = [f"--{k.replace('_', '-')}-addr={v}" for k, v in self.addresses.items()]
        self.log = open(self.folder + "/control-plane.log", "a")
        self.child = subprocess.Popen([self.program, "serve", "--config", self.directory, "--ca-dir", self.ca,
                                       "--dns-name", "istiod.istio-system.svc", "--dns-name", "localhost", *flags],
                                      stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.child.stdout.readline()
        if not line:
            with open(self.folder + "/control-plane.log") as f:
                raise SystemExit(f.read())
        self.addresses = json.loads(line)

    def stop(self):
        self.child.terminate()
        self.child.wait(10)
        self.log.close()

    def port(self, name):
        return int(self.addresses[name].rsplit(":", 1)[1])

    def write(self, config):
        """Replaces the configuration, as a whole."""
        path = self.directory + "/config.yaml"
        with open(path + ".new", "w") as f:
            f.write(config)
        os.rename(path + ".new", path)

    def issue(self, account, namespace="default", ttl_hours=1):
        """The folder with the certificate of a service account: cert-chain.pem, key.pem, root-cert.pem."""
        folder = f"{self.folder}/{account}.{namespace}.{time.monotonic_ns()}"
        identity = f"spiffe://cluster.local/ns/{namespace}/sa/{account}"
        self.tool("ca", "issue", "--dir", self.ca, "--identity", identity, "--out", folder, "--ttl-hours",
                  str(ttl_hours))
        return folder

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.addresses['http']}{path}", timeout=5) as r:
            return r.read().decode()

    def rejects(self):
        """What clients have rejected, by type."""
        found = re.findall(r'pilot_total_xds_rejects\{type="(\w+)"\} (\d+)', self.get("/metrics"))
        return {kind: int(n) for kind, n in found if int(n)}

    def logged(self, text):
        with open(self.folder + "/control-plane.log") as f:
            return [line.strip() for line in f if text in line]


class Checks:
    """Counts and prints outcomes."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, what, ok, note=""):
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        print(("ok   " if ok else "FAIL ") + what, "" if ok and not note else str(note)[:400], flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        raise SystemExit(bool(self.failed))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(predicate, seconds=10):
    """Waits until the predicate holds; returns its last value."""
    end = time.monotonic() + seconds
    while not (value := predicate()) and time.monotonic() < end:
        time.sleep(0.05)
    return value
