# SPDX-License-Identifier: MIT
"""Hermes-Agent 0.19: its environment interface beside its own local one, and its tools through the plugin."""

import atexit
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from conftest import ends, leases, ratio

HOME = tempfile.mkdtemp(prefix="hermes-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ.update(HERMES_HOME=HOME, HERMES_QUIET="1", TERMINAL_ENV="modal", TERMINAL_MODAL_MODE="pool")
pathlib.Path(HOME, "config.yaml").write_text("plugins:\n  enabled: [modalpool]\n")

from hermes_cli.plugins import discover_plugins, get_plugin_manager  # noqa: E402
from tools import terminal_tool as terminal  # noqa: E402
from tools.code_execution_tool import execute_code  # noqa: E402
from tools.environments.local import LocalEnvironment  # noqa: E402
from tools.interrupt import set_interrupt  # noqa: E402
from tools.process_registry import process_registry  # noqa: E402

import modalpool  # noqa: E402
from modalpool.hermes import PoolEnvironment  # noqa: E402

discover_plugins()


@pytest.fixture
def env(mount):
    made = PoolEnvironment(timeout=30)
    yield made
    made.cleanup()
    assert leases(mount) == []


# Each runs behind the ones before it, in one environment.
BATTERY = [
    ("echo hi", {}), ("echo out; echo err >&2", {}), ("exit 3", {}), ("false", {}), ("printf 'no newline'", {}), ("", {}),
    ("true | false | true", {}), ("set -o pipefail; false | true", {}), ("no-such-program 2>/dev/null", {}),
    ("export A='a b' B=2", {}), ("echo \"$A $B\"", {}), ("unset B; echo \"[$B]\"", {}), ("C=3; echo $C", {}), ("echo \"[$C]\"", {}),
    ("mkdir -p 'd/e f'; cd 'd/e f'; pwd", {}), ("pwd; touch here; ls", {}), ("cd ..; pwd", {}), ("cd - >/dev/null; pwd", {}),
    ("cd /nowhere 2>/dev/null; pwd", {}), ("pwd", {"cwd": "/usr"}), ("pwd", {}), ("true", {"cwd": "/nowhere at all"}), ("cd ../..; pwd", {}),
    ("cat", {"stdin_data": "line 1\n$HOME `x` 'y' \"z\" \\n\nö ✨"}), ("cat | wc -c", {"stdin_data": "x" * 300000}), ("cat; echo end", {}),
    ("cat <<'E'\n$HOME\nE", {}), ("for i in 1 2 3; do\n  echo \"$i\"\ndone", {}), ("echo 'it'\"'\"'s'", {}), ("echo ö ✨ 中文", {}),
    ("printf '\\377\\376x\\n'", {}), ("seq 100000 | tail -n 1; seq 30000", {}), ("echo begun; sleep 1000", {"timeout": 1}), ("sleep 1000", {"timeout": 1}),
    ("sleep 3 & echo at once", {}), ("f() { echo in f; return 4; }; f", {}), ("(exit 5)", {}), ("trap 'echo bye' EXIT; echo hi", {}),
    ("kill -TERM $$", {}), ("echo x > file; cat < file; rm file", {}), ("python3 -c 'print(6 * 7); raise SystemExit(9)'", {}),
    ("ulimit -n >/dev/null; umask", {}), ("echo $((2**40))", {}), ("alias ll='echo aliased'; ll 2>/dev/null", {}),
]


def test_beside_its_local_environment(env, tmp_path):
    """The same output and code from both, for each command."""
    (tmp_path / "work").mkdir()
    local = LocalEnvironment(cwd=str(tmp_path / "work"), timeout=30)
    home = env.execute("pwd")["output"].strip()
    differ = []
    for command, options in BATTERY:
        ours, theirs = (json.loads(json.dumps(one.execute(command, **options)).replace(root, "ROOT").replace("/usr/bin/bash:", "bash:"))
                        for one, root in ((env, home), (local, str(tmp_path / "work"))))
        # Their local environment tells a signal as -N, as Python does.
        theirs["returncode"] = 128 - theirs["returncode"] if theirs["returncode"] < 0 else theirs["returncode"]
        if ours != theirs:
            differ.append((command, options, ours, theirs))
    local.cleanup()
    assert not differ, "\n".join(map(str, differ))
    print(f"\n{len(BATTERY)} commands: the same in both")


def test_interrupt(env):
    """Within a second; another command goes on, and the lease lives."""
    other = env.lease.start("sleep 86410")
    done = {}

    def run():
        done["result"] = env.execute("echo begun > begun; sleep 86411")
        done["at"] = time.monotonic()

    thread = threading.Thread(target=run)
    thread.start()
    env.lease.run("until [ -e begun ]; do sleep 0.01; done")
    began = time.monotonic()
    set_interrupt(True, thread.ident)
    thread.join()
    set_interrupt(False, thread.ident)
    print(f"\ninterrupted after {done['at'] - began:.2f} s")
    assert done["result"] == {"output": "\n[Command interrupted]", "returncode": 130}
    assert env.execute(ends("sleep 86411") + "; pgrep -fc '[s]leep 86410'")["output"] == "1\n"
    other.remove()
    assert env.execute("echo on") == {"output": "on\n", "returncode": 0}
    assert set(os.listdir(env.lease.path + "/jobs")) == set()


def test_a_lost_sandbox(env, mount):
    threading.Thread(target=lambda: (mount.until(lambda: mount.stats()["jobs"]["running"] == 1), mount.murder(mount.sandboxes()))).start()
    with pytest.raises(modalpool.JobError, match="gone"):
        env.execute("sleep 1000")
    with pytest.raises(modalpool.Error, match="gone"):
        env.execute("true")


def test_settings(mount, image):
    env = PoolEnvironment(cwd="/usr", env={"A": "a b"})
    assert env.execute("pwd; echo $A")["output"] == "/usr\na b\n"
    env.cleanup()
    image(lambda name: PoolEnvironment(image=name))


@pytest.fixture
def tools(mount):
    """Hermes' tools; the environment that they made ends behind the test."""
    assert terminal.check_terminal_requirements()
    yield
    terminal.cleanup_all_environments()
    assert leases(mount) == []


def run(command, **options):
    return json.loads(terminal.terminal_tool(command, force=True, **options))


def test_the_plugin(tools, mount):
    loaded = {one["name"]: one for one in get_plugin_manager().list_plugins()}["modalpool"]
    assert loaded["enabled"] and not loaded.get("error"), loaded
    assert (run("echo hi > file; cat file; exit 3")["output"], len(leases(mount))) == ("hi", 1)
    assert isinstance(terminal.get_active_env("default"), PoolEnvironment)
    inside = run("mkdir -p sub; cd sub; pwd")["output"]
    assert inside.startswith("/") and run("pwd; cat ../file")["output"] == f"{inside}\nhi"
    run("cd ..")
    terminal.cleanup_all_environments()  # as after some minutes without a command
    assert leases(mount) == [] and run("pwd; ls")["output"] == os.path.dirname(inside)


def test_an_image(tools, image, monkeypatch):
    """That of Hermes' configuration."""
    monkeypatch.setenv("TERMINAL_MODAL_IMAGE", "alpine:3")

    def make(_):
        said = run("true")
        if said["exit_code"] != 0:
            raise RuntimeError(json.dumps(said))
        return terminal.get_active_env("default")

    image(make)


def test_a_background_process(tools):
    """It runs beside a foreground command of 25 seconds, and both end as they should."""
    began = run("for i in 1 2 3; do echo tick $i; sleep 7; done; echo background", background=True, timeout=10)
    assert run("sleep 25; echo foreground", timeout=60)["output"] == "foreground"
    said = process_registry.wait(began["session_id"], timeout=30)
    assert said["exit_code"] == 0 and said["output"].split() == "tick 1 tick 2 tick 3 background".split(), said


def test_a_background_process_that_is_killed(tools):
    """Hermes kills the outer shell alone, as in all its sandboxes; with the lease the rest of it ends, too."""
    began = run("sleep 86412", background=True)
    assert process_registry.poll(began["session_id"])["status"] == "running"
    assert process_registry.kill_process(began["session_id"])["status"] == "killed"
    assert run("echo on")["output"] == "on"


def test_execute_code(tools):
    """Its tool calls run in the sandbox, while the script waits for them."""
    code = ("from hermes_tools import terminal, write_file, read_file\n"
            "write_file('made', 'by the script\\n')\nprint(terminal('sleep 11; cat made; exit 3'))\n"
            "print(read_file('made')['content'])")
    said = json.loads(execute_code(code))
    assert said["status"] == "success" and said["tool_calls_made"] == 3, said
    assert "by the script" in said["output"] and "'exit_code': 3" in said["output"]


def test_a_crash(mount):
    code = ("import os, signal\nfrom modalpool.hermes import PoolEnvironment\nenv = PoolEnvironment()\n"
            "env.lease.start('sleep 86413')\nos.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    mount.until(lambda: leases(mount) == [])


def test_ratio(env, tmp_path):
    local = LocalEnvironment(cwd=str(tmp_path))
    ratio(lambda: env.execute("true"), lambda: local.execute("true"), calls=50)
    local.cleanup()
