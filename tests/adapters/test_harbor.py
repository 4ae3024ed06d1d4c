# SPDX-License-Identifier: MIT
"""Harbor: its own oracle and its agent that does nothing, as trials; and the environment itself."""

import asyncio
import json
import logging
import os
import pathlib
import subprocess
import sys
import time

import pytest
from conftest import ends, leases, ratio
from harbor.models.task.config import EnvironmentConfig
from harbor.models.trial.paths import TrialPaths

import modalpool
from modalpool.harbor import PoolEnvironment

HARBOR = pathlib.Path(sys.executable).parent / "harbor"
NAME = "modalpool.harbor:PoolEnvironment"
TASK = {
    "task.toml": 'schema_version = "1.0"\n[metadata]\n[agent]\ntimeout_sec = 120\n[verifier]\ntimeout_sec = 120\n[environment]\nworkdir = "/app"\n',
    "instruction.md": "Write the sum of the numbers in /app/numbers to /app/sum.\n",
    "environment/Dockerfile": "FROM debian:12-slim\n",
    "solution/solve.sh": "#!/bin/sh\nsleep 1\nprintf '%s\\n' 1 2 39 > /app/numbers\nawk '{s += $1} END {print s}' /app/numbers > /app/sum\n",
    "tests/test.sh": '#!/bin/sh\nif [ "$(cat /app/sum)" = 42 ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt\n',
}


@pytest.fixture
def fresh(pool):
    return pool(reset="environment", max=4)


def task(directory, **changed):
    for name, text in {**TASK, **changed}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return directory


def trials(tasks, agent, jobs, count=16, at_once=8, options=("any_image=true",)):
    """harbor run: the rewards of the trials, and what went wrong."""
    command = [HARBOR, "run", "-p", tasks, "-a", agent, "-n", str(at_once), "-k", str(count), "-o", jobs, "--environment-import-path", NAME]
    for option in options:
        command += ["--ek", option]
    environment = {**os.environ, "HARBOR_TELEMETRY": "off", "HOME": str(jobs)}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    results = [json.loads(path.read_text()) for path in jobs.glob("*/*/result.json")]
    assert len(results) == count, done.stdout + done.stderr
    rewards = [(result["verifier_result"] or {}).get("rewards", {}).get("reward") for result in results]
    return rewards, [(result["exception_info"] or {}).get("exception_message") for result in results]


@pytest.mark.parametrize("agent, reward", [("oracle", 1.0), ("nop", 0.0)])
def test_trials(fresh, tmp_path, agent, reward):
    """16, 8 at once, in a pool of 4."""
    began = time.monotonic()
    rewards, errors = trials(task(tmp_path / "task"), agent, tmp_path / "jobs")
    assert rewards == [reward] * 16 and errors == [None] * 16, errors
    assert fresh.stats()["environments_created_total"] >= 16
    print(f"\n{agent}: 16 trials, 8 at once, in a pool of 4: {time.monotonic() - began:.1f} s")


def test_what_is_refused(fresh, pool, tmp_path):
    _, errors = trials(task(tmp_path / "task"), "nop", tmp_path / "1", count=1, options=())
    assert "has a Dockerfile, which a pool does not build" in errors[0]
    other = task(tmp_path / "other", **{"task.toml": TASK["task.toml"] + 'docker_image = "alpine:3"\n'})
    _, errors = trials(other, "nop", tmp_path / "2", count=1, options=())
    assert "the image alpine:3 is asked for" in errors[0]
    pool(reset="workdir")
    _, errors = trials(tmp_path / "task", "nop", tmp_path / "3", count=1)
    assert "mount it with -o reset=environment" in errors[0]


def made(tmp_path, **options):
    (tmp_path / "environment").mkdir(exist_ok=True)
    paths = TrialPaths(tmp_path / "trial")
    return PoolEnvironment(environment_dir=tmp_path / "environment", environment_name="t", session_id="t__1", trial_paths=paths,
                           task_env_config=EnvironmentConfig(**options), logger=logging.getLogger("t"))


def test_the_environment(fresh, tmp_path):
    async def main():
        env = made(tmp_path, workdir="/app")
        await env.start(force_build=False)
        r = await env.exec("pwd; echo $A; echo oh >&2; exit 3", env={"A": "a b"})
        assert (r.stdout, r.stderr, r.return_code) == ("/app\na b\n", "oh\n", 3)
        assert (await env.exec("pwd", cwd="/tmp", user="root")).stdout == "/tmp\n"
        with pytest.raises(RuntimeError, match="timed out after 1 seconds"):
            await env.exec("sleep 1000", timeout_sec=1)
        script = "touch here{0}; until [ $(ls here* | wc -l) = 4 ]; do sleep 0.01; done; echo {0}"
        assert [r.stdout for r in await asyncio.gather(*(env.exec(script.format(i)) for i in range(4)))] == [f"{i}\n" for i in range(4)]
        source = task(tmp_path / "source")
        (source / "tests/link").symlink_to("test.sh")
        (source / "empty").mkdir()
        await env.upload_dir(source, "/deep/er")
        assert (await env.exec("find . -printf '%P %m %l\\n' | sort | tr '\\n' ,", cwd="/deep/er/tests")).stdout == " 755 ,link 777 test.sh,test.sh 755 ,"
        await env.download_dir("/deep/er", tmp_path / "back")
        assert subprocess.run(["diff", "-r", "--no-dereference", source, tmp_path / "back"], check=False).returncode == 0
        await env.upload_file(source / "tests/test.sh", "/x y")
        assert (await env.exec("stat -c %a '/x y'")).stdout == "755\n"
        await env.download_file("/x y", tmp_path / "z")
        assert (tmp_path / "z").read_text() == TASK["tests/test.sh"]
        assert await env.is_dir("/deep") and not await env.is_dir("/x y") and await env.is_file("/x y")
        running = asyncio.create_task(env.exec("touch begun; sleep 86414"))
        await env.exec("until [ -e begun ]; do sleep 0.01; done")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await env.exec(ends("sleep 86414"), timeout_sec=30)).return_code == 0
        await env.stop(delete=True)
        with pytest.raises(RuntimeError, match="not been started"):
            await env.exec("true")

    asyncio.run(main())
    assert leases(fresh) == []


def test_a_lost_sandbox(fresh, tmp_path):
    async def main():
        env = made(tmp_path)
        await env.start(force_build=False)
        lost = asyncio.create_task(env.exec("touch begun; sleep 1000"))
        await env.exec("until [ -e begun ]; do sleep 0.01; done")
        fresh.murder(fresh.sandboxes())
        with pytest.raises(RuntimeError, match="gone"):
            await lost
        with pytest.raises(modalpool.Error, match="gone"):
            await env.exec("true")
        await env.stop(delete=True)

    asyncio.run(main())


def test_ratio(fresh, tmp_path):
    env = made(tmp_path)
    with asyncio.Runner() as runner:
        runner.run(env.start(force_build=False))

        async def local():
            process = await asyncio.create_subprocess_shell("true", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            await process.communicate()

        ratio(lambda: runner.run(env.exec("true")), lambda: runner.run(local()),
              name="a process of asyncio, as Harbor has no local environment")
        runner.run(env.stop(delete=True))
