# SPDX-License-Identifier: MIT
"""
The cases: modalpool on real mounts.

MODALPOOL is the program (default: build/fs/modalpool). --backend selects the backend: sandboxes of this machine, or
Modal, which tests/modal_sim simulates; each also with faults, and Modal also with gVisor in its sandboxes, or without a
helper in them. --valgrind runs the daemon under valgrind. Each test has a time limit; after a hang it prints what every
process waits for in the kernel, and takes the mount down. After each test no mount, process, file or environment may be
left.
"""

import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import harness
import processes
from modal_sim import gvisor
from modal_sim.simulator import Simulator

LIMIT_S = 30
WITHOUT_HELPER = {"helper": False, "reset": "workdir"}  # nothing compares then, and reset=clean lends no sandbox again
os.environ["MODALPOOL_STRICT"] = "1"  # an illegal transition aborts the daemon: pool/util/transition.h


@dataclasses.dataclass
class Settings:
    program: str
    provider: str = "local"
    faults: bool = False
    v2: bool = False  # Modal's second kind of sandbox
    helper: bool = True  # in each sandbox, which runs the jobs; else each is an exec of the provider
    gvisor: bool = False  # is the kernel inside
    prefix: str = "local-"  # what the id of an environment begins with
    simulator: Simulator = None
    served: int = 0  # commands that Modal's simulator started
    slow: int = 1  # how much longer things may take
    wrapper: list = dataclasses.field(default_factory=list)
    options: dict = dataclasses.field(default_factory=dict)
    environment: dict = dataclasses.field(default_factory=dict)

    def rpc(self, method):
        """The name of one of Modal's calls about a sandbox, given as it is for the first kind."""
        other = {"TaskGetCommandRouterAccess": "SandboxGetCommandRouterAccess"}
        return other.get(method, method + "V2") if self.v2 else method


# Who starts the tests with nohup, or in the background of a script, must not change what signals do to the readers here.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Hang(Exception):
    pass


def pytest_addoption(parser):
    group = parser.getgroup("modalpool")
    group.addoption("--backend", default=os.environ.get("MODALPOOL_TEST_BACKEND", "local"),
                    choices=["local", "local+fault", "modal", "modal-exec", "modal-v1", "modal+fault", "modal-gvisor"],
                    help="over what the cases run; modal: over its second kind of sandbox; -exec: without a helper in each")
    group.addoption("--fault-seed", default="1", help="which faults there are")
    group.addoption("--valgrind", action="store_true", help="run the daemon under valgrind")
    group.addoption("--slow", type=int, default=1, help="give everything this many times the time (sanitizers)")


def pytest_configure(config):
    for line in ("limit(seconds): the time limit of a test",
                 "exact: counts environments or their lives, so it makes no sense with faults",
                 "local: is about the local backend, or what only that can show",
                 "modal: is about the Modal backend",
                 "plain: is about jobs without a helper, each an exec of Modal: its mounts have helper=no",
                 "quick: needs a daemon at full speed, not one under valgrind or a sanitizer",
                 "root: needs to be root",
                 "languages: needs compilers or programs that are big; scripts/test languages runs these",
                 "suites: runs a test suite of others; scripts/test suites builds and runs these",
                 "many: needs minutes and a thousand sandboxes; scripts/test many runs these",
                 "small: belongs to the small set that runs under valgrind"):
        config.addinivalue_line("markers", line)


def pytest_sessionstart(session):
    processes.adopt_orphans()


def which_backend(config):
    """--backend: its name for the program, whether it has faults, and which kind it is."""
    name, _, fault = config.getoption("--backend").partition("+")
    name, _, kind = name.partition("-")
    return name, fault == "fault", kind


def pytest_collection_modifyitems(config, items):
    exact = pytest.mark.skip(reason="exact numbers do not hold with faults injected")
    own = pytest.mark.skip(reason="makes its own faults, or none: it is the same without --backend modal+fault")
    quick = pytest.mark.skip(reason="measures speed or size, which say nothing here")
    root = pytest.mark.skip(reason="needs root")
    other = pytest.mark.skip(reason="is about another backend")
    slow = config.getoption("--valgrind") or config.getoption("--slow") > 1
    backend, faults, _ = which_backend(config)
    for item in items:
        if any(item.get_closest_marker(name) for name in ("local", "modal") if name != backend):
            item.add_marker(other)
        if item.get_closest_marker("exact") and faults:
            item.add_marker(exact)
        if "calm" in item.fixturenames and faults:
            item.add_marker(own)
        if item.get_closest_marker("quick") and slow:
            item.add_marker(quick)
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(root)


@pytest.fixture(scope="session")
def settings(pytestconfig, tmp_path_factory):
    default = pathlib.Path(__file__).parents[2] / "build/fs/modalpool"
    program = pathlib.Path(os.environ.get("MODALPOOL", default)).resolve()
    if not program.exists():
        pytest.exit(f"{program} is not there; build it, or set MODALPOOL", 2)
    made = Settings(str(program), slow=pytestconfig.getoption("--slow"))
    made.provider, made.faults, kind = which_backend(pytestconfig)
    made.v2, made.helper, made.gvisor = made.provider == "modal" and kind != "v1", kind != "exec", kind == "gvisor"
    if made.provider != "local":
        made.options.update({"helper": True} if made.helper else WITHOUT_HELPER)
    if made.provider == "local" and made.faults:
        made.options.update(fault=harness.FAULTS, fault_seed=pytestconfig.getoption("--fault-seed"))
    if pytestconfig.getoption("--valgrind"):
        made.slow = 10
        made.wrapper = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
                        "--errors-for-leak-kinds=definite", "--child-silent-after-fork=yes"]
    if made.provider == "local":
        # Most cases of a crash are about environments that end with it; test_survival.py is about those that do not.
        made.options.update(orphan_timeout=0)
        yield made
        return
    made.prefix = "sb-"
    if not made.v2:
        made.options.update(sandbox="v1")
    Simulator.slow = made.slow
    directory = tmp_path_factory.mktemp("sim")
    kind = {"sandbox": "gvisor"} if made.gvisor else {}
    if made.gvisor:
        try:
            gvisor.runsc()
        except RuntimeError as e:
            pytest.skip(str(e))
    with Simulator(directory=directory, **kind) as made.simulator:
        made.environment.update(made.simulator.env({}))
        if made.faults:
            made.simulator.faults(*harness.MODAL_FAULTS, seed=int(pytestconfig.getoption("--fault-seed")))
        yield made
        pytestconfig.served = made.served
    assert os.listdir(directory) == []


def pytest_terminal_summary(terminalreporter, config):
    if hasattr(config, "served"):
        terminalreporter.write_line(f"the simulator of Modal started {config.served} commands")


class Watchdog:
    """
    Ends a test that hangs: prints what waits for what, unblocks it, and fails the test.

    Its clock goes slower when more processes want to run than there are cores, as the test does.
    """

    def __init__(self, limit, mounts):
        self.mounts = mounts
        self.limit = limit
        self.bitten = False
        self.ended = threading.Event()  # the test itself
        self.over = threading.Event()  # with all that comes behind it
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def start(self):
        signal.signal(signal.SIGALRM, self.give_up)
        self.thread.start()

    def stop(self):
        self.over.set()
        self.thread.join()

    def watch(self):
        left, before = self.limit, time.monotonic()
        while left > 0:
            if self.over.wait(min(left, 1)):
                return
            now = time.monotonic()
            left -= (now - before) * min(1, os.cpu_count() / max(1, os.getloadavg()[0]))
            before = now
        self.bite()

    def bite(self):
        self.bitten = True
        print(f"\nhang: no end after {self.limit} s", file=sys.stderr)
        try:
            print(processes.stacks([os.getpid(), *processes.descendants()]), file=sys.stderr)
        finally:
            for mount in self.mounts:
                print(mount.log(), file=sys.stderr)
                mount.abort()
        # What waited for the mount has its answer now. Only who waits for something else is interrupted: an
        # exception that comes while pytest handles another one can get lost.
        if not self.ended.wait(1):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    def give_up(self, *_):
        if not self.ended.is_set():
            raise Hang(f"no end after {self.limit} s; the kernel's stacks are in the captured stderr")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    item.mounts = []
    item.failed = True  # until it has run to its end
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    outcome = yield
    item.dog.ended.set()
    item.failed = outcome.excinfo is not None and not outcome.excinfo[0].__name__ == "Skipped"


def check_provider(settings, item):
    """What is left at Modal after a test, and proof that it was Modal. The simulator's records are cleared for the next test."""
    stats = settings.simulator.stats()
    started = sum(one["starts"] for one in stats["execs"].values())
    settings.served += started
    left = stats["sandboxes"]["live"]
    problems = []
    if left and not item.failed and not item.dog.bitten:
        problems.append(f"sandboxes that were left: {', '.join(left)}")
    if stats["sandboxes"]["created"] != sum(stats["sandboxes"]["ended"].values()) + len(left):
        problems.append(f"the simulator's records do not agree: {stats['sandboxes']}")
    for exec_id, facts in stats["execs"].items():
        if facts["starts"] != 1:
            problems.append(f"exec {exec_id} started {facts['starts']} times")
    # A helper starts jobs by itself.
    jobs = sum(min(mount.jobs, 1) if mount.options["helper"] not in (False, "no") else mount.jobs for mount in item.mounts if not mount.elsewhere)
    if started < jobs:
        problems.append(f"{started} commands were started at Modal, fewer than there were jobs")
    if stats["unknown_methods"]:
        problems.append(f"asked of Modal, who does not know it: {stats['unknown_methods']}")
    settings.simulator.reset(keep=["faults"] if settings.faults else [])
    return problems


@pytest.fixture(autouse=True)
def tidy(request, settings):
    """The time limit, and the check that nothing is left."""
    item = request.node
    before = processes.descendants()
    marker = item.get_closest_marker("limit")
    limit = (marker.args[0] if marker else LIMIT_S) * settings.slow
    item.dog = Watchdog(limit, item.mounts)
    item.dog.start()
    problems = []
    try:
        yield
        if item.failed or item.dog.bitten:
            for mount in item.mounts:
                print(mount.log(), file=sys.stderr)
        else:
            for mount in item.mounts:
                mount.stop()
    finally:
        item.dog.stop()
        for mount in item.mounts:
            mount.demolish()
        if settings.simulator:
            problems = check_provider(settings, item)
        # What descends from us now and did not before was left behind.
        left = {pid: start for pid, start in processes.descendants().items() if before.get(pid) != start}
        running = processes.gone(left, 2)
        problems += [f"process {pid} was left behind: {processes.name(pid)}" for pid in running]
        processes.kill(running)
        processes.gone(running, 2)
    if item.dog.bitten and not item.failed:
        problems.append(f"no end after {limit} s")
    assert not problems, "\n".join(problems)


@pytest.fixture
def mount(request, settings, tmp_path):
    """mount(max=2, …): a daemon with these options on a mount of its own."""
    item = request.node
    without = WITHOUT_HELPER if item.get_closest_marker("plain") else {}

    def make(environment=None, start=True, **options):
        directory = tmp_path / f"m{len(item.mounts)}"
        made = harness.Mount(settings, directory, {**without, **options}, environment, start=False)
        item.mounts.append(made)
        if start:
            made.start()
        return made

    return make


@pytest.fixture
def mp(mount):
    """A mount with the default options."""
    return mount()


@pytest.fixture
def lease(mp):
    """A lease on such a mount, which has its environment."""
    lease = mp.lease()
    lease.read("environment")
    return lease


@pytest.fixture
def together(lease, settings):
    """A lease whose environment runs several jobs at once."""
    if not settings.helper:
        pytest.skip("these environments run one job at a time")
    return lease


@pytest.fixture
def sim(settings):
    """Modal's simulator, where the cases run over it."""
    return settings.simulator


@pytest.fixture
def rpc(settings):
    """rpc("SandboxCreate"): its name for the kind of sandbox that the cases run over."""
    return settings.rpc


@pytest.fixture
def calm(sim):
    """No faults while this test runs, except those that it sets itself."""
    before = sim.ask("/faults")
    sim.faults()
    yield sim
    rules = [{key: value for key, value in rule.items() if key != "seen"} for rule in before["rules"]]
    sim.faults(*rules, seed=before["seed"])


def compile_client(name, out, *flags):
    """tests/cases/clients/NAME.c, built once."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler")
    if not out.exists():
        source = pathlib.Path(__file__).parent / "clients" / f"{name}.c"
        subprocess.run([compiler, "-O1", "-Wall", *flags, "-o", out, source], check=True)
    return str(out)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """compiled("program"): a client, built."""
    directory = tmp_path_factory.mktemp("clients")
    return lambda name: compile_client(name, directory / name)


@pytest.fixture(scope="session")
def compiled_library(tmp_path_factory):
    """compiled_library("library"): one that is to be preloaded."""
    directory = tmp_path_factory.mktemp("libraries")
    return lambda name: compile_client(name, directory / f"{name}.so", "-shared", "-fPIC")


@pytest.fixture
def with_clock(mount, compiled_library, tmp_path):
    """with_clock(max=2): a mount, and a function that sets its wall clock so many seconds before the true time."""

    def make(**options):
        ahead = tmp_path / "ahead"
        ahead.write_text("0")
        mp = mount(start=False, **options)
        if mp.settings.wrapper:
            pytest.skip("preloads a library")
        mp.environment.update(LD_PRELOAD=compiled_library("clockjump"), CLOCKJUMP=str(ahead),
                              ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0")
        mp.start()
        return mp, lambda seconds: ahead.write_text(str(seconds))

    return make


@pytest.fixture
def need():
    """need("node"): skip the test if a program is not installed."""

    def check(*programs):
        for program in programs:
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed")

    return check
