# SPDX-License-Identifier: MIT
"""
The package modalpool and its adapters, with the real frameworks, over real mounts.

frameworks.py makes a virtual environment for each framework and runs its tests there. By hand, for one of them:

    MODALPOOL=build/dev/fs/modalpool python3 tests/adapters/frameworks.py --directory build/adapters mini-swe-agent

MODALPOOL is the program. --backend modal runs the tests over a simulated Modal with a helper in each sandbox, modal-gvisor with Modal's kernel too. After
each test no lease, mount or process may be left.
"""

import faulthandler
import os
import pathlib
import signal
import sys
import time
import types

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/cases")]

import modalpool  # noqa: E402
import harness  # noqa: E402
import processes  # noqa: E402
from modal_sim.simulator import Simulator  # noqa: E402

LIMIT_S = 90


def pytest_addoption(parser):
    parser.addoption("--backend", default="local", choices=["local", "modal", "modal-gvisor"], help="over what the mounts are")


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): the time limit of a test")
    config.addinivalue_line("markers", "root: needs to be root in the sandbox")


def pytest_sessionstart(session):
    processes.adopt_orphans()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    outcome = yield
    item.passed = outcome.excinfo is None


@pytest.fixture(scope="session")
def settings(pytestconfig, tmp_path_factory):
    program = pathlib.Path(os.environ.get("MODALPOOL", ROOT / "build/fs/modalpool")).resolve()
    if not program.exists():
        pytest.exit(f"{program} is not there; build it, or set MODALPOOL", 2)
    backend = pytestconfig.getoption("--backend")
    made = types.SimpleNamespace(program=str(program), provider=backend.partition("-")[0], faults=False, wrapper=[],
                                 simulator=None, gvisor=backend == "modal-gvisor", options={}, environment={"MODALPOOL_STRICT": "1"})
    if made.provider == "local":
        yield made
        return
    made.options.update(helper="yes")
    kind = {"sandbox": "gvisor"} if made.gvisor else {}
    with Simulator(directory=tmp_path_factory.mktemp("sim"), **kind) as made.simulator:
        made.environment.update(made.simulator.env({}))
        yield made


@pytest.fixture(autouse=True)
def limit(request):
    """A test that hangs fails. If it does not even notice that, the process ends, with the stack of what waited."""
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else LIMIT_S

    def give_up(*_):
        signal.alarm(5)
        pytest.fail(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 30, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pool(request, limit, settings, tmp_path_factory, monkeypatch):
    """pool(max=2, …): a mount, which is also the default one of the package."""
    made = []
    before = processes.descendants()

    def make(**options):
        mount = harness.Mount(settings, tmp_path_factory.mktemp("mount"), options)
        made.append(mount)
        monkeypatch.setenv("MODALPOOL_MOUNT", str(mount.path))
        return mount

    try:
        yield make
        if not getattr(request.node, "passed", False):
            print(*(mount.log() for mount in made), sep="\n", file=sys.stderr)
        for mount in made:
            mount.until(lambda mount=mount: leases(mount) == [])
            mount.stop()
    finally:
        for mount in made:
            mount.demolish()
    left = {pid: start for pid, start in processes.descendants().items() if before.get(pid) != start}
    running = processes.gone(left, 5)
    assert not running, [processes.name(pid) for pid in running]


@pytest.fixture
def mount(pool):
    """A mount with the default options."""
    return pool()


def leases(mount):
    """Those of the mount, and of the pools in it."""
    names = sorted(os.listdir(mount.path))
    pools = [name for name in names if name.startswith("@")]
    return [name for name in names if name[0] not in ".@"] + [
        f"{pool}/{name}" for pool in pools for name in os.listdir(mount / pool) if name != ".pool"]


@pytest.fixture
def image(settings):
    """image(make): an environment is asked for with another image than the pool's. Local sandboxes have none."""
    def check(make):
        if settings.provider == "local":
            with pytest.raises(Exception, match="the image alpine:3 is asked for"):
                make("alpine:3")
            return
        made = make("alpine:3")
        assert modalpool.pool.image(os.path.dirname(made.lease.path)) == "alpine:3"
        made.lease.release()
    return check


def ends(command):
    """A script that waits until no process of this command is left. A kill takes a moment."""
    return f"while pgrep -f '[{command[0]}]{command[1:]}' > /dev/null; do sleep 0.01; done"


def ratio(ours, theirs, calls=100, name="the framework's own local environment"):
    """Print what one call of ours costs beside one of theirs. In turns, so that both have the same machine."""
    ours(), theirs()
    took = [[], []]
    for _ in range(calls):
        for times, call in zip(took, (ours, theirs)):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    mine, other = (sorted(times)[calls // 2] for times in took)
    print(f"\none call of true: {mine * 1e3:.1f} ms, {name}: {other * 1e3:.1f} ms, ratio {mine / other:.2f}")
