# SPDX-License-Identifier: MIT
"""Inspect AI: its own suite for sandboxes, an evaluation with its tools, and its local sandbox beside ours."""

import asyncio
import os
import subprocess
import sys
import time

import anyio
import pytest
from conftest import ends, leases, ratio
from inspect_ai import Task, eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import includes
from inspect_ai.solver import solver
from inspect_ai.tool import bash
from inspect_ai.util import OutputLimitExceededError, SandboxEnvironmentSpec, SandboxUnavailableError, SandboxUserUnsupportedError
from inspect_ai.util._sandbox.limits import override_max_exec_output_size
from inspect_ai.util._sandbox.local import LocalSandboxEnvironment
from inspect_ai.util._sandbox.self_check import *  # noqa: F403

import modalpool
from modalpool.inspect_ai import PoolConfig, PoolSandboxEnvironment

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

# The checks of Inspect's suite that fail, and why. Over gVisor, where jobs run as nobody, three of them pass.
ROOT = "root inside may read and write every file, and jobs run as root"
MISSES = {
    "test_exec_as_user": "bubblewrap gives a sandbox one user",
    "test_read_file_not_allowed": ROOT,
    "test_write_text_file_without_permissions": ROOT,
    "test_write_binary_file_without_permissions": ROOT,
}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def sandbox_env(mount, settings, request):
    misses = {"test_exec_as_user": "adduser wants PAM, which the simulator's image lacks"} if settings.gvisor else MISSES
    if request.node.originalname in misses:
        request.applymarker(pytest.mark.xfail(reason=misses[request.node.originalname], strict=True))
    with modalpool.Lease(user="nobody" if settings.gvisor else None) as lease:
        yield PoolSandboxEnvironment(lease)
    assert leases(mount) == []


@both
async def test_execs_run_side_by_side(sandbox_env):
    """Four that wait for each other, and what four times sleep 1 takes."""
    async def one(i):
        script = f"touch here{i}; until [ $(ls here* | wc -l) = 4 ]; do sleep 0.01; done; echo {i}"
        assert (await sandbox_env.exec(["sh", "-c", script])).stdout == f"{i}\n"

    async with anyio.create_task_group() as group:
        for i in range(4):
            group.start_soon(one, i)
    began = time.monotonic()
    async with anyio.create_task_group() as group:
        for i in range(4):
            group.start_soon(sandbox_env.exec, ["sleep", "1"])
    print(f"\nfour execs of sleep 1 at once: {time.monotonic() - began:.2f} s")


@both
async def test_an_exec_that_is_cancelled(sandbox_env):
    """It is killed, and no other is."""
    async with anyio.create_task_group() as group:
        group.start_soon(sandbox_env.exec, ["sh", "-c", "touch begun; sleep 86407; true"])
        other = sandbox_env.lease.start("sleep 86408")
        await sandbox_env.exec(["sh", "-c", "until [ -e begun ]; do sleep 0.01; done"])
        group.cancel_scope.cancel()
    assert (await sandbox_env.exec(["sh", "-c", ends("sleep 86407")], timeout=30)).success
    assert (await sandbox_env.exec(["pgrep", "-f", "[s]leep 86408"])).success
    other.remove()


async def test_ends(sandbox_env, mount, settings):
    with pytest.raises(TimeoutError) as late:
        await sandbox_env.exec(["sh", "-c", "echo begun; sleep 1000"], timeout=1)
    assert late.value.truncated_output == "begun\n"
    assert (await sandbox_env.exec(["sh", "-c", "exit 124"], timeout=10)).returncode == 124
    assert "/nowhere" in (await sandbox_env.exec(["true"], cwd="/nowhere")).stderr
    assert (await sandbox_env.exec(["no-such-program"])).returncode == 127
    with override_max_exec_output_size(10), pytest.raises(OutputLimitExceededError) as long:
        await sandbox_env.exec(["seq", "1000"])
    assert long.value.truncated_output == "1\n2\n3\n4\n5\n"
    if settings.provider == "local":
        with pytest.raises(SandboxUserUnsupportedError, match="one user"):
            await sandbox_env.exec(["true"], user="nobody")
    async with anyio.create_task_group() as group:
        async def lost():
            with pytest.raises(SandboxUnavailableError, match="gone"):
                await sandbox_env.exec(["sh", "-c", "touch begun; sleep 1000"])
        group.start_soon(lost)
        await sandbox_env.exec(["sh", "-c", "until [ -e begun ]; do sleep 0.01; done"])
        mount.murder(mount.sandboxes())
    with pytest.raises(SandboxUnavailableError, match="gone"):
        await sandbox_env.exec(["true"])


@solver
def tool(command):
    """Calls the tool bash, without a model: a model's tokens are counted with tables from the network."""
    async def solve(state, generate):
        state.output = ModelOutput.from_content("mockllm/model", await bash()(command))
        return state
    return solve


def run(sandbox, command, tmp_path):
    """Evaluate four samples: the log, and what the tool printed in each."""
    samples = [Sample(input="say", target=f"content {i}", files={"given/file": f"content {i}\n"}) for i in range(4)]
    log = evaluate(Task(dataset=samples, solver=tool(command), scorer=includes(), sandbox=sandbox), model="mockllm/model",
                   log_dir=str(tmp_path / "logs"), display="none")[0]
    return log, [sample.output.completion for sample in log.samples or []]


def test_an_evaluation(pool, tmp_path):
    """By the entry point; each sample has a sandbox of its own, with its files in it."""
    mount = pool(max=2)
    log, printed = run("modalpool", "cat given/file; ls; touch left", tmp_path)
    assert log.status == "success", log.error
    assert printed == [f"content {i}\ngiven\n" for i in range(4)]
    assert log.results.scores[0].metrics["accuracy"].value == 1
    assert leases(mount) == []


def test_configurations(mount, settings, tmp_path):
    config = PoolConfig(mount=str(mount.path), cwd="/tmp", env={"A": "b"})
    assert run(SandboxEnvironmentSpec("modalpool", config), "pwd; echo $A", tmp_path)[1] == ["/tmp\nb\n"] * 4
    assert run(("modalpool", str(mount.path)), "echo hi", tmp_path)[1] == ["hi\n"] * 4
    log, printed = run(SandboxEnvironmentSpec("modalpool", PoolConfig(image="alpine:3")), "echo hi", tmp_path)
    if settings.provider == "local":  # whose sandboxes have no image
        assert log.status == "error" and "the image alpine:3 is asked for" in log.error.message
    else:
        assert printed == ["hi\n"] * 4 and [name for name in os.listdir(mount.path) if name.startswith("@alpine-3")]
    log, _ = run(("modalpool", "/nowhere"), "true", tmp_path)
    assert log.status == "error" and "no modalpool is mounted at /nowhere" in log.error.message


CRASH = """
import os, signal
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.solver import solver
from inspect_ai.util import sandbox
@solver
def crash():
    async def solve(state, generate):
        await sandbox().exec(["echo", "hi"])
        os.kill(os.getpid(), signal.SIGKILL)
    return solve
eval(Task(dataset=[Sample(input="x")], solver=crash(), sandbox="modalpool"), model="mockllm/model", display="none")
"""


def test_a_crash(mount, tmp_path):
    assert subprocess.run([sys.executable, "-c", CRASH], cwd=tmp_path, check=False).returncode == -9
    mount.until(lambda: leases(mount) == [])


def test_ratio(mount):
    with modalpool.Lease() as lease, asyncio.Runner() as runner:
        ours, theirs = PoolSandboxEnvironment(lease), LocalSandboxEnvironment()
        ratio(lambda: runner.run(ours.exec(["true"])), lambda: runner.run(theirs.exec(["true"])))
        theirs.directory.cleanup()
