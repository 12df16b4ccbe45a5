"""One running simulator: started here or found by its env file; its control API; names under its domain.

The control API moves time and looks into the journal. It is the only thing here that Azure does not have.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

START_DEADLINE = 30.0
"""Real seconds that a simulator may take until it answers."""

_resolve = socket.getaddrinfo
_suffixes = {"localhost"}


def _getaddrinfo(host, *args, **kwargs):
    """The resolver of this process: names under the simulator's domain are on loopback, all others as ever."""
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and any(name.lower().rstrip(".").endswith("." + suffix) for suffix in _suffixes):
        host = "127.0.0.1"
    return _resolve(host, *args, **kwargs)


def resolve_here(suffix):
    """Lets every name under the suffix resolve in this process; no resolver of the machine need know it."""
    _suffixes.add(suffix.lower())
    socket.getaddrinfo = _getaddrinfo


def read_env(path):
    """`export NAME='value'` lines as a mapping."""
    values = {}
    for line in Path(path).read_text().splitlines():
        found = re.fullmatch(r"(?:export )?(\w+)='(.*)'", line.strip())
        if found:
            values[found[1]] = found[2].replace("'\\''", "'")
    return values


def _die_with_parent():
    """The simulator must not outlive a killed test run (Linux only; elsewhere it is stopped by the fixture)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Simulator:
    """A simulator that answers. `close` stops it if it was started here."""

    def __init__(self, env, process=None):
        self.env = env
        self.process = process
        self.moved = 0.0
        """Seconds by which this object has moved the clock."""
        resolve_here(self.suffix)
        self.session = requests.Session()
        self.session.verify = env["AZURE_SIM_CA"]

    @classmethod
    def start(cls, state_dir, *options, authority_from=None):
        """Starts the program of AZURE_SIM_BIN. With `authority_from`, the CA of another state folder signs for it too."""
        state_dir = Path(state_dir)
        state_dir.mkdir(parents=True, exist_ok=True)
        if authority_from is not None:
            for name in ("ca.pem", "ca-key.pem"):
                shutil.copy(Path(authority_from) / name, state_dir / name)
        written = state_dir / "azure-sim.env"
        log = open(state_dir / "log", "wb")
        process = subprocess.Popen(
            [os.environ["AZURE_SIM_BIN"], "--listen", "127.0.0.1:0", "--state-dir", str(state_dir), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        deadline = time.monotonic() + START_DEADLINE
        while True:
            if process.poll() is not None:
                raise RuntimeError("azure-sim ended at once: " + (state_dir / "log").read_text()[-2000:])
            try:
                sim = cls(read_env(written), process)
                sim.control("GET", "clock")
                return sim
            except (OSError, KeyError, requests.RequestException):
                if time.monotonic() > deadline:
                    process.kill()
                    raise RuntimeError("azure-sim does not answer: " + (state_dir / "log").read_text()[-2000:])
                os.sched_yield()

    def close(self):
        self.session.close()
        if self.process is None:
            return
        self.process.terminate()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        log = Path(self.process.args[4]) / "log"
        assert "panicked" not in log.read_text(errors="replace"), log.read_text(errors="replace")[-4000:]
        assert code == 0, f"azure-sim ended with {code}"

    @property
    def tenant(self):
        return self.env["AZURE_TENANT_ID"]

    @property
    def subscription(self):
        return self.env["AZURE_SUBSCRIPTION_ID"]

    @property
    def arm(self):
        return self.env["AZURE_SIM_ARM"].rstrip("/")

    @property
    def authority(self):
        """The login host with its port, as `authority=` of azure-identity takes it."""
        return self.env["AZURE_SIM_LOGIN"].rstrip("/")

    @property
    def domain(self):
        """`<suffix>[:port]`: what follows `vault.` or `blob.` in the names of hosts."""
        return self.arm.removeprefix("https://").removeprefix("management.")

    @property
    def suffix(self):
        return self.domain.partition(":")[0]

    def control(self, method, path, body=None, query=None):
        """Calls `/_sim/{path}`; the answer's JSON, or None where there is none."""
        answer = self.session.request(method, f"{self.arm}/_sim/{path}", json=body, params=query, timeout=30)
        assert answer.ok, f"{method} /_sim/{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def advance(self, seconds):
        """Time passes, for the simulator only."""
        if seconds > 0:
            self.control("POST", "clock", {"advanceSeconds": float(seconds)})
            self.moved += seconds

    def lags(self, **lags):
        """Lags in seconds of changes from now on; those not named are none."""
        lagging = {name: {"kind": "fixed", "seconds": float(seconds)} for name, seconds in lags.items()}
        now = self.control("GET", "propagation")
        none = {name: {"kind": "none"} for name, lag in now.items() if isinstance(lag, dict) and "kind" in lag}
        self.control("PUT", "propagation", {**none, **lagging})

    def fault(self, method, path, action, **rule):
        self.control("POST", "faults", {"method": method, "path": path, "action": action, **rule})

    def count(self, **filters):
        """How many requests of the journal match."""
        return len(self.control("GET", "journal", query=filters))

    # What Azure does outside of ARM: the names of these are the simulator's own.

    @property
    def imds(self):
        """Origin of the instance metadata service, plain HTTP, as AZURE_POD_IDENTITY_AUTHORITY_HOST takes it."""
        return self.env["AZURE_SIM_IMDS"].rstrip("/")

    @property
    def app_service(self):
        """IDENTITY_ENDPOINT and IDENTITY_HEADER of a web app."""
        return self.env["AZURE_SIM_IDENTITY_ENDPOINT"], self.env["AZURE_SIM_IDENTITY_HEADER"]

    def register_certificate(self, client_id, pem):
        """Registers a certificate with an application; in Azure by Microsoft Graph."""
        self.control("POST", f"principals/{client_id}/certificates", {"certificate": pem})

    def trust_issuer(self, issuer, jwks):
        """Publishes the signing keys of a foreign issuer of tokens; in Azure they are fetched from the issuer."""
        self.control("PUT", "issuers", {"issuer": issuer, "jwks": jwks})
