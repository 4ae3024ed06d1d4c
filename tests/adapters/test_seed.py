# SPDX-License-Identifier: MIT
"""modalpool.seed, beside the module whose names it has: Hermes-Agent's pooled Modal backend, where its text is there."""

import importlib
import os
import pathlib
import sys
import threading

import pytest
from conftest import ROOT, leases, ratio

import modalpool
from modalpool import seed

SEED = pathlib.Path(os.environ.get("MODALPOOL_SEED", ROOT.parent / "shared/seed"))
# The text comes as one line. This is its layout: of each line the depth and the number of words.
LAYOUT = """0:103 0:4 0:2 0:2 0:2 0:2 0:4 0:4 0:1 0:2 1:2 1:2 0:2 1:6 1:6 2:3 2:3 2:3 2:4 2:3 1:8 2:5 2:2 3:2 4:2 5:2 4:4 5:3 5:1
4:5 4:4 5:8 5:3 5:1 4:2 2:5 2:1 3:2 2:2 3:7 3:2 4:3 4:1 3:1 1:4 2:2 3:2 3:1 0:4 0:4 0:4 1:2 1:4 2:5 2:3 1:2 0:2 1:9 1:10 2:3 2:3
2:5 2:5 2:3 2:7 2:9 1:1 1:12 2:3 2:3 2:5 1:17 2:13 2:5 2:6 1:2 2:10 2:1 3:5 2:2 3:1 2:1 1:2 2:1"""


@pytest.fixture
def original(tmp_path, monkeypatch):
    """The module itself."""
    texts = sorted(SEED.glob("*.txt")) if SEED.is_dir() else []
    if not texts:
        pytest.skip(f"the text of the module is not at {SEED}")
    words, lines = texts[0].read_text().split(), []
    for depth, count in (map(int, line.split(":")) for line in LAYOUT.split()):
        lines.append("    " * depth + " ".join(words[:count]))
        del words[:count]
    assert words == []
    (tmp_path / "original_pool.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("original_pool")
    del sys.modules["original_pool"]


@pytest.fixture(autouse=True)
def size(monkeypatch):
    monkeypatch.setenv("TERMINAL_MODAL_POOL_MAX", "3")
    monkeypatch.setattr(seed, "_global_pool", None)


def tasks(module):
    """Eight tasks at once; what each command of each of them answers."""
    answers = {}

    def task(i):
        env = module.ModalPooledTaskEnvironment.acquire(image="", base_cwd="/tmp/base/", timeout=20, task_id=f"task-{i}",
                                                        create_modal_env_fn=seed.LeasedEnvironment)
        answers[i] = [env.execute(command, **options) for command, options in (
            ("pwd; ls -A", {}), (f"echo {i} > file; cat file", {}), ("echo out; echo err >&2; exit 7", {}), ("pwd", {"cwd": "/usr"}),
            ("cat file", {}), ("echo begun; sleep 1000", {"timeout": 1}), ("kill -9 $$", {}), ("pwd", {"cwd": "/nowhere"}))]
        answers[i].append((env.task_id, env.cwd, env.base_cwd, env.timeout))
        env.stop()

    threads = [threading.Thread(target=task, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_eight_tasks(pool, original):
    """The same from both, over a pool of three."""
    mount = pool(max=3)
    theirs = tasks(original)
    assert len(leases(mount)) == 3  # that pool keeps what it has
    original.get_global_pool()._idle.clear()
    assert leases(mount) == []
    ours = tasks(seed)
    assert len(ours) == 8 and ours == theirs
    assert ours[4][0] == {"output": "/tmp/base/hermes_tasks/task-4\n", "returncode": 0} and ours[4][5]["returncode"] == 124
    assert mount.environments()["leased"] + mount.environments()["idle"] + mount.environments()["cleaning"] <= 3


def test_the_pool(mount, monkeypatch):
    pool = seed.get_global_pool()
    assert pool is seed.get_global_pool() and pool.max_size == 3
    env = pool.acquire(lambda: pytest.fail("the pool creates"), wait_s=5)
    assert env.execute("echo hi; exit 2") == {"output": "hi\n", "returncode": 2} and env.id == env.lease.environment
    pool.release(env)
    assert leases(mount) == []
    monkeypatch.delenv("TERMINAL_MODAL_POOL_MAX")
    monkeypatch.setattr(seed, "_global_pool", None)
    assert seed.get_global_pool().max_size == 4
    with pytest.raises(modalpool.Error, match="the image alpine:3 is asked for"):
        seed.ModalPooledTaskEnvironment.acquire(image="alpine:3", base_cwd="/root", timeout=9, task_id="t")


def test_what_is_lost(mount):
    env = seed.ModalPooledTaskEnvironment.acquire(image="", base_cwd="/", timeout=30, task_id="it's; a name")
    assert env.execute("pwd")["output"] == "/root/hermes_tasks/it's; a name\n"
    mount.murder(mount.sandboxes())
    for _ in range(2):
        answer = env.execute("sleep 1000")
        assert answer["returncode"] == 1 and "gone" in answer["output"]
    env.cleanup()
    assert leases(mount) == []


def test_ratio(mount, original):
    """The old module over the same kind of environment."""
    ours, theirs = (module.ModalPooledTaskEnvironment.acquire(image="", base_cwd="/tmp", timeout=30, task_id="t",
                                                              create_modal_env_fn=seed.LeasedEnvironment) for module in (seed, original))
    ratio(lambda: ours.execute("true"), lambda: theirs.execute("true"), name="through the old module")
    ours.cleanup()
    theirs._inner.cleanup()
