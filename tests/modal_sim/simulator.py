"""For tests: `with Simulator() as sim:` runs a simulator for the length of a block.

Needs nothing but the standard library, so that any test may import it; the
simulator itself runs in an interpreter that has its requirements.
"""

import importlib.util
import json
import os
import select
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
START_SECS = 30
STOP_SECS = 20


def interpreter():
    """This interpreter when it has the requirements, else that of the virtual environment of scripts/sim."""
    if all(importlib.util.find_spec(name) for name in ("grpc", "modal_proto", "trustme", "hpack", "aiohttp")):
        return sys.executable
    venv = os.path.join(ROOT, os.environ.get("MODALPOOL_VENV", "build/venv"))
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(python):
        raise RuntimeError(f"{python} is missing; scripts/sim --install makes it")
    return python


class Simulator:
    """Attributes once started: server_url, router_url, control_url, ca (None without TLS), token_id, token_secret.

    `settings` are those of POST /config, `faults` is a document of POST /faults.
    """

    slow = 1  # everything may take this many times the time; tests/cases sets it for every simulator

    def __init__(self, tls=True, faults=None, seed=0, directory=None, **settings):
        self._arguments = ["--while-stdin", "--seed", str(seed)]
        if not tls:
            self._arguments.append("--plain")
        if directory:
            self._arguments += ["--directory", str(directory)]
        for name, value in settings.items():
            self._arguments += ["--set", f"{name}={json.dumps(value)}"]
        self._faults = faults
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def start(self):
        env = dict(os.environ, PYTHONPATH=os.path.dirname(HERE), PYTHONDONTWRITEBYTECODE="1")
        # Its standard input is the lifeline: it ends when we do, however we end.
        self._process = subprocess.Popen(
            [interpreter(), "-m", "modal_sim", *self._arguments], env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        readable, _, _ = select.select([self._process.stdout], [], [], START_SECS * self.slow)
        line = self._process.stdout.readline() if readable else b""
        if not line:
            self.stop()
            raise RuntimeError("the simulator did not start; its reason is on standard error")
        self.__dict__.update(json.loads(line))
        if self._faults:
            self.faults(**self._faults)

    def stop(self):
        """Ends the simulator; every sandbox and file of it is gone when this returns."""
        if self._process is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECS * self.slow)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()
            self._process = None

    def env(self, base=None):
        """The environment in which a client of Modal finds this simulator."""
        env = dict(os.environ if base is None else base)
        env.update(MODAL_SERVER_URL=self.server_url, MODAL_TOKEN_ID=self.token_id,
                   MODAL_TOKEN_SECRET=self.token_secret, MODAL_CONFIG_PATH=os.devnull)
        if self.ca:
            env.update(SSL_CERT_FILE=self.ca, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=self.ca)
        return env

    def ask(self, path, body=None):
        """GET without a body, POST with one; the answer's JSON. Errors of the endpoint become ValueError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control_url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            raise ValueError(e.read().decode()) from e

    def stats(self):
        return self.ask("/stats")

    def until(self, condition, seconds=20):
        """Waits for what the records say; they have no event to wait for."""
        deadline = time.monotonic() + seconds * self.slow
        while not condition(stats := self.stats()):
            assert time.monotonic() < deadline, stats
            time.sleep(0.02)
        return stats

    def trace(self, **wanted):
        query = "&".join(f"{k}={v}" for k, v in wanted.items())
        return self.ask("/trace?" + query)

    def sandboxes(self, **tags):
        return self.ask("/sandboxes?" + urllib.parse.urlencode(tags))

    def faults(self, *rules, seed=0, **document):
        return self.ask("/faults", {"seed": seed, "rules": list(rules), **document})

    def config(self, **values):
        return self.ask("/config", values)

    def reset(self, keep=()):
        return self.ask("/reset", {"keep": list(keep)})

    def secret(self, name, **env):
        return self.ask("/secret", {"name": name, "env": env})

    def volume(self, name):
        return self.ask("/volume", {"name": name})

    def processes(self):
        """What runs in the sandboxes, as [sandbox, state, command line]."""
        return self.ask("/processes")

    def snapshots(self):
        return self.ask("/snapshots")

    def kill_sandbox(self, sandbox_id, **end):
        """`end`: status (a GenericStatus by name or number), exitcode, exception."""
        return self.ask(f"/sandbox/{sandbox_id}/kill", end)

    def run(self, sandbox_id, *argv):
        """The exit code of a program that is none of Modal's execs, as if the image itself had started it."""
        return self.ask(f"/sandbox/{sandbox_id}/run", {"argv": argv})["code"]

    def age_sandbox(self, sandbox_id, seconds):
        return self.ask(f"/sandbox/{sandbox_id}/age", {"seconds": seconds})

    def move_router(self):
        return self.ask("/router/move", {})

    def reset_connections(self, listener=None):
        return self.ask("/connections/reset", {"listener": listener} if listener else {})

    def expire_jwt(self, cut=False, of="router"):
        return self.ask("/jwt/expire", {"cut": cut, "of": of})
