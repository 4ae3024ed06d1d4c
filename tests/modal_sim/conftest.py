import json
import os
import subprocess
import time

import grpc
import pytest

from .client import Client
from .simulator import Simulator


def pytest_configure(config):
    config.addinivalue_line("markers", "witness: the rarer runs of Modal's own SDKs; they run with -m witness")
    config.addinivalue_line("markers", "gvisor: needs runsc, which scripts/setup --gvisor builds; they run with -m gvisor")


def pytest_collection_modifyitems(config, items):
    if not config.option.markexpr:
        rare = [item for item in items if item.get_closest_marker("witness") or item.get_closest_marker("gvisor")]
        config.hook.pytest_deselected(items=rare)
        items[:] = [item for item in items if item not in rare]


def kinds():
    """Parameters tls and kind of a witness: each of the two kinds of sandbox, over TLS and plain."""
    return pytest.mark.parametrize("tls, kind", [
        pytest.param(tls, kind, id=f"v{1 + int(kind)}-{'tls' if tls else 'plain'}") for tls in (True, False) for kind in "10"])


def leftovers(mark):
    """Files and processes whose name or command line holds the mark."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if mark.encode() in f.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def eventually(condition, seconds=15):
    """Asks until the answer is yes; what it was in the end."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answer
    return answer


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    """One simulator for a module; each test begins with empty records and no faults.

    At the end nothing of it may be left: no process, no file.
    """
    directory = tmp_path_factory.mktemp("sim")
    with Simulator(directory=directory) as simulator:
        yield simulator
    assert os.listdir(directory) == []
    assert leftovers(str(directory)) == []


@pytest.fixture
def client(sim):
    sim.reset()
    with Client(sim) as plain:
        yield plain


@pytest.fixture
def box(client):
    with client.create() as sandbox:
        yield sandbox


class Refused:
    """`with refused("UNAVAILABLE") as r:`, then r.error."""

    def __init__(self, *codes):
        self.codes = codes

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        assert isinstance(error, grpc.RpcError), f"expected {self.codes}, got {error!r}"
        self.error = error
        self.code = error.code().name
        assert self.code in self.codes, error
        return True


@pytest.fixture
def refused():
    return Refused


def witness(argv, sim, **options):
    """Runs an SDK's witness and returns what it said."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_witness(said, stats, flavour, terminal="24 80"):
    """What each SDK must have seen, and that the simulator's records agree."""
    box = said["sandbox"]
    assert (said["stdout"], said["stderr"], said["code"]) == (f"out\n{flavour}\n", "err\n", 7)
    assert (said["echoed"], said["echoed_code"]) == ("line 0\nline 1\nline 2\n", 0)
    assert said["zeros"] == 3000000
    assert said["signal"] == 128 + 9
    assert said["workdir"] == "/tmp\n"
    assert said["polled"] is None
    assert (said["listed"], said["other"], said["moved"], said["after"]) == ([box], [], [box], [])
    assert said["tags"] == {"pool": "w2"}
    assert "manifest for unknown/image not found" in said["unknown"]
    assert said["terminal"] == terminal + "\r\n"
    assert (said["file"], said["size"], said["files"]) == (True, 1000000, ["file", "sub"])
    assert "SandboxFilesystemNotFoundError" in said["missing"]
    assert (said["tunnelled"], said["restored"]) == ("cba", 1000000)

    assert stats["sandboxes"] == {"created": 2, "ended": {"terminated": 2}, "live": {}}
    assert {e["starts"] for e in stats["execs"].values()} == {1}
    assert [e["sandbox"] == box for e in stats["execs"].values()].count(False) == 1  # what was restored
    ends = {(e["code"], e["signal"]) for e in stats["execs"].values()}
    assert ends == {(0, None), (1, None), (7, None), (None, 9)}
    assert stats["rpcs"]["TaskExecStart"] == stats["statuses"]["TaskExecStart"]["OK"] == len(stats["execs"])
    assert stats["unknown_methods"] == {}
    assert stats["open_calls"] == {}
