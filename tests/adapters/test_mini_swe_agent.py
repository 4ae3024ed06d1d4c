# SPDX-License-Identifier: MIT
"""mini-swe-agent: its agent with a deterministic model, and its environment beside its own local one."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import pytest
from conftest import ends, leases, ratio

HOME = tempfile.mkdtemp(prefix="mini-swe-agent-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ.update(MSWEA_SILENT_STARTUP="1", MSWEA_GLOBAL_CONFIG_DIR=HOME)

from minisweagent.agents.default import DefaultAgent  # noqa: E402
from minisweagent.environments import get_environment  # noqa: E402
from minisweagent.environments.local import LocalEnvironment  # noqa: E402
from minisweagent.exceptions import Submitted  # noqa: E402
from minisweagent.models.test_models import DeterministicModel, make_output  # noqa: E402

import modalpool  # noqa: E402

NAME = "modalpool.mini_swe_agent.PoolEnvironment"


@pytest.fixture
def env(mount):
    made = get_environment({"environment_class": NAME})
    yield made
    made.cleanup()


def agent(env, *commands):
    model = DeterministicModel(outputs=[make_output(f"step {i}", [{"command": c} for c in step])
                                        for i, step in enumerate(commands)])
    return DefaultAgent(model, env, system_template="You are on {{system}} {{machine}}.", instance_template="{{task}}", cost_limit=0)


def test_the_agent(env, tmp_path):
    made = agent(env, ["echo begun > notes; cat notes"], ["cd /; pwd", "pwd; exit 3"], ["sleep 1000"],
                 ["echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; cat notes; echo the end"])
    env.config.timeout = 1
    assert made.run("a task") == {"exit_status": "Submitted", "submission": "begun\nthe end\n"}
    assert made.messages[0]["content"] == f"You are on {os.uname().sysname} {os.uname().machine}."
    seen = [m["content"] for m in made.messages if m["role"] == "user"]
    workdir = env.lease.run("pwd").output
    assert seen[1] == "<returncode>0</returncode>\n<output>\nbegun\n</output>"
    assert seen[2] == "<returncode>0</returncode>\n<output>\n/\n</output>"
    assert seen[3] == f"<returncode>3</returncode>\n<output>\n{workdir}</output>"
    assert "<returncode>-1</returncode>" in seen[4] and "timed out after 1 s" in seen[4]
    saved = made.save(tmp_path / "trajectory.json")
    assert saved["info"]["config"]["environment_type"] == NAME and saved["info"]["exit_status"] == "Submitted"


CASES = ["echo hi", "echo out; echo err >&2; exit 7", "printf 'no newline'", "printf '\\377\\n'", "exit 124", "echo $HOME$A",
         "kill -9 $$", "seq 20000", "cd /usr && pwd", "nonsense-command 2>/dev/null", "false | true"]


@pytest.mark.parametrize("command", CASES)
def test_beside_its_local_environment(env, command):
    """The same output and code from both. A signal is 128+N in a sandbox and -N in its local environment."""
    ours = env.execute({"command": command})
    theirs = LocalEnvironment(timeout=30).execute({"command": command})
    theirs["returncode"] = 128 - theirs["returncode"] if theirs["returncode"] < 0 else theirs["returncode"]
    if "HOME" in command:
        ours["output"], theirs["output"] = ours["output"][:1], theirs["output"][:1]
    assert ours == theirs


def test_a_background_process(env):
    """It is not waited for, where their local environment does until its timeout."""
    assert env.execute({"command": "sleep 86406 & echo at once"}) == {"output": "at once\n", "returncode": 0, "exception_info": ""}
    assert env.execute({"command": "pkill -f '[s]leep 86406'"})["returncode"] == 0


def test_settings(mount, image):
    env = get_environment({"environment_class": NAME, "cwd": "/usr", "env": {"A": "a b"}, "timeout": 1})
    assert env.execute({"command": "pwd; echo $A"})["output"] == "/usr\na b\n"
    assert env.execute({"command": "pwd"}, cwd="/tmp")["output"] == "/tmp\n"
    out = env.execute({"command": "echo begun; sleep 1000"})
    assert (out["output"], out["returncode"], out["extra"]["exception_type"]) == ("begun\n", -1, "timeout")
    with pytest.raises(Submitted):
        env.execute({"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"})
    env.cleanup()
    assert leases(mount) == []
    image(lambda name: get_environment({"environment_class": NAME, "image": name}))


def test_interrupt(env):
    """^C in the middle of an action kills it; the environment lives on."""
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with pytest.raises(KeyboardInterrupt):
        agent(env, ["sleep 86404"]).run("a task")
    assert env.execute({"command": ends("sleep 86404")})["returncode"] == 0


def test_a_lost_sandbox_ends_the_run(env, mount):
    env.get_template_vars()
    killer = threading.Thread(target=lambda: (mount.until(lambda: mount.stats()["jobs"]["running"] == 1),
                                              mount.murder(mount.sandboxes())))
    killer.start()
    with pytest.raises(modalpool.Error, match="gone"):
        agent(env, ["sleep 1000"], ["echo never"]).run("a task")
    killer.join()


def test_a_crash(pool):
    mount = pool(max=1)
    code = (f"import os, signal, time\nfrom minisweagent.environments import get_environment\n"
            f"env = get_environment({{'environment_class': '{NAME}'}})\nenv.lease.start('sleep 86405')\n"
            "os.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    mount.until(lambda: leases(mount) == [])


def test_ratio(env):
    local = LocalEnvironment()
    ratio(lambda: env.execute({"command": "true"}), lambda: local.execute({"command": "true"}))
