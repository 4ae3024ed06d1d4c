# SPDX-License-Identifier: MIT
"""Modal sandboxes that outlive the program that made them: taken back, used again, found, ended."""

import errno
import hashlib
import os
import signal
import time
import uuid

import pytest

import drive
import harness
from modal_sim.simulator import Simulator

pytestmark = [pytest.mark.modal, pytest.mark.exact]


@pytest.fixture
def sim(tmp_path):
    """A simulator of its own, whose records must be in order at the end."""
    directory = tmp_path / "sim"
    directory.mkdir()
    with Simulator(directory=directory) as simulator:
        yield simulator
        stats = simulator.stats()
        assert stats["sandboxes"]["live"] == {}
        assert {job: facts["starts"] for job, facts in stats["execs"].items() if facts["starts"] != 1} == {}
        assert stats["unknown_methods"] == {}


@pytest.fixture
def run(request, settings, sim, tmp_path):
    pool = str(uuid.uuid4())
    helper = settings.helper and not request.node.get_closest_marker("plain")
    env = {"DRIVE_SANDBOX": "auto" if settings.v2 else "v1", "DRIVE_HELPER": "yes" if helper else "no"}
    program = drive.program(settings, tmp_path / "drive")
    runs = []

    def begin(*pools):
        runs.append(drive.Run(settings, program, "modal", *(pools or [pool]), env={**sim.env(), **env}))
        return runs[-1]
    yield begin
    for one in runs:
        one.__exit__()


SLOW = "i=0; while [ $i -lt 20 ]; do echo line $i; echo err $i >&2; i=$((i+1)); sleep 0.1; done; exit 7"
SLOW_OUT = "".join(f"line {i}\n" for i in range(20)).encode()


def die(one, how):
    """The end of a run, with all that it had in hand."""
    if how == "killed":
        one.process.kill()
        one.process.wait()
        return
    one.tell("cancel")
    one.tell("leave")
    one.expect("destroyed ok")


@pytest.mark.limit(90)
@pytest.mark.parametrize("seed", [None, 1, 2, 3], ids=["calm", "seed 1", "seed 2", "seed 3"])
@pytest.mark.parametrize("how", ["killed", "left"])
def test_a_job_goes_on(run, sim, how, seed):
    """Another run takes the sandbox back, reads on where the first stopped, and gets the end. Its clean-up kills everything."""
    if seed:
        sim.faults(*harness.MODAL_FAULTS, seed=seed)
    first, job = run(), str(uuid.uuid4())
    nonce, box, token = first.create()
    first.run(job, SLOW)
    first.expect("started")
    first.until_output(20)
    die(first, how)
    before = first.got
    assert 20 <= len(before[1]) < len(SLOW_OUT)

    second = run()
    seconds, same, again = second.adopt(nonce, token)
    assert (same, again) == (box, token) and 500 < int(seconds) < 600
    second.run(job, SLOW, f"{len(before[1])}:{len(before[2])}")
    second.expect("started")
    assert second.expect("ended") == "ok 7"
    assert before[1] + second.got[1] == SLOW_OUT
    assert before[2] + second.got[2] == SLOW_OUT.replace(b"line", b"err")
    second.tell("clean", "/root/drive")
    second.expect("cleaned ok")
    second.run(str(uuid.uuid4()), "echo again; cat /proc/[0-9]*/comm | grep -c sleep")
    second.expect("started")
    assert second.expect("ended") == "ok 1" and second.got[1].endswith(b"again\n0\n")
    second.destroy()
    assert sim.stats()["sandboxes"] == {"created": 1, "ended": {"terminated": 1}, "live": {}}


@pytest.mark.plain
def test_input_goes_on(run, sim, tmp_path):
    """The rest of a long input comes through as well, each byte once."""
    data = os.urandom(8 << 20)  # more than the simulator takes ahead of the process
    (tmp_path / "input").write_bytes(data)
    command = "trap go=1 USR1; head -c 1000000 | sha1sum; until [ $go ]; do sleep 0.05; done; sha1sum; exit 3"
    first, job = run(), str(uuid.uuid4())
    nonce, _, token = first.create()
    first.run(job, command, data=tmp_path / "input")
    first.expect("started")
    first.until_output(44)
    die(first, "killed")
    second = run()
    second.adopt(nonce, token)
    second.run(job, command, "44:0", data=tmp_path / "input")
    second.expect("started")
    second.tell("signal", str(int(signal.SIGUSR1)))
    assert second.expect("ended") == "ok 3"
    sums = [hashlib.sha1(part).hexdigest() + "  -\n" for part in (data[:1000000], data[1000000:])]
    assert (first.got[1] + second.got[1]).decode() == "".join(sums)
    assert sim.stats()["rpcs"]["TaskExecStdinStatus"] == 1
    second.destroy()


@pytest.mark.plain
def test_started_but_not_known(run, sim):
    """A crash between the start and its answer: the job is started again under the same id, and runs once."""
    first, job = run(), str(uuid.uuid4())
    nonce, _, token = first.create()
    sim.faults({"kind": "hang", "when": "after", "method": "TaskExecStart"})
    first.run(job, "echo once >>log; cat log; echo $$")
    sim.until(lambda stats: stats["execs"].get(job))
    die(first, "killed")
    sim.faults()
    second = run()
    second.adopt(nonce, token)
    second.run(job, "echo once >>log; cat log; echo $$")
    second.expect("started")
    assert second.expect("ended") == "ok 0"
    assert second.got[1].startswith(b"once\n") and second.got[1].count(b"\n") == 2
    assert sim.stats()["rpcs"]["TaskExecStart"] > len(sim.stats()["execs"])
    second.destroy()


@pytest.mark.plain
def test_a_job_that_nobody_knows(run):
    """It is not started: how it ended cannot be known. The sandbox is as good as before."""
    one = run()
    one.create()
    one.run(str(uuid.uuid4()), "echo no", "0:0")
    one.expect("started")
    assert "cannot be known" in one.expect("ended failed 0")
    one.run(str(uuid.uuid4()), "echo yes")
    one.expect("started")
    assert one.expect("ended") == "ok 0" and one.got[1] == b"yes\n"
    one.destroy()


@pytest.mark.plain
def test_a_complaint_that_was_read_before(run):
    """What looks like the wrapper's line is one only at the beginning of stderr."""
    job = str(uuid.uuid4())
    one = run()
    one.create()
    one.run(job, f"printf 'x{job} cwd /nowhere' >&2; exit 126")
    one.expect("started")
    assert one.expect("ended") == "ok 126" and one.got[2].endswith(b"cwd /nowhere")
    one.run(job, "", "0:1")
    one.expect("started")
    assert one.expect("ended") == "ok 126"
    assert one.got[2] == f"x{job} cwd /nowhere{job} cwd /nowhere".encode()
    one.destroy()


# What cannot be taken back


@pytest.mark.parametrize("when", ["before", "while it lives"])
def test_a_sandbox_that_died(run, sim, when):
    first = run()
    nonce, box, token = first.create()
    die(first, "killed")
    if when == "before":
        sim.kill_sandbox(box)
    second = run()
    if when == "before":
        second.tell("adopt", nonce, token)
        assert box in second.expect("created lost")
    else:
        second.adopt(nonce, token)
        sim.kill_sandbox(box)
        assert box in second.expect("died lost")
    second.destroy()


def test_no_network_is_no_death(run, sim):
    """Without a network the adoption waits, and succeeds when the network is back."""
    first = run()
    nonce, _, token = first.create()
    die(first, "killed")
    second = run()
    sim.faults({"kind": "reset"})
    second.tell("adopt", nonce, token)
    sim.until(lambda stats: sum(stats["faults"].values() if isinstance(stats["faults"], dict) else []) >= 5)
    sim.faults()
    second.expect("created ok")
    second.destroy()


@pytest.mark.parametrize("token", [
    "1", "2 sb-1 ta-1 1700000000000000 600 ", "1 sb-1 ta-1 1700000000000000 600 1:2;rm", "1 sb/1 ta-1 1 600 ",
    "1 sb-1  1 600 ", "1 sb-1 ta-1 -1 600 ", "1 sb-1 ta-1 1 86401 ", "1 sb-1 ta-1 99999999999999999999 600 "])
def test_a_token_that_cannot_be_read(run, token):
    one = run()
    one.tell("adopt", str(uuid.uuid4()), token)
    one.expect(f"refused {errno.EINVAL}")


# A create that was answered to nobody


def test_a_create_that_was_answered_to_nobody(run, sim, rpc):
    """The sandbox is found by its nonce and ended, with all others that this create made."""
    nonce = str(uuid.uuid4())
    first = run()
    sim.faults({"kind": "hang", "when": "after", "method": rpc("SandboxCreate")})
    first.tell("create", nonce)
    sim.until(lambda stats: stats["sandboxes"]["created"] == 1)
    die(first, "killed")
    again = run()  # the same create once more, under another idempotency key
    again.tell("create", nonce)
    sim.until(lambda stats: stats["sandboxes"]["created"] == 2)
    die(again, "killed")
    sim.faults()
    second = run()
    second.tell("adopt", nonce)
    second.expect("created failed")
    second.destroy()
    assert sim.stats()["sandboxes"] == {"created": 2, "ended": {"terminated": 2}, "live": {}}
    second.tell(f"adopt {nonce}\ndestroy")  # nothing is there any more
    second.expect("destroyed ok")


@pytest.mark.parametrize("when", ["before", "after"])
def test_destroyed_before_it_is_created(run, sim, rpc, when):
    """The create hangs, and may have made a sandbox or not. Nothing is left within the time of a stop."""
    one = run()
    sim.faults({"kind": "hang", "when": when, "method": rpc("SandboxCreate")})
    one.tell("create", str(uuid.uuid4()))
    sim.until(lambda stats: sum(stats["faults"].values()) == 1)
    one.tell("destroy")
    answer = one.expect("destroyed", seconds=25)
    assert answer.startswith("ok" if when == "after" else "failed Modal did not answer in time")
    assert sim.stats()["sandboxes"]["created"] == (when == "after")


def test_list(run, sim):
    """All sandboxes of this pool, page by page, and none of another pool. Ended ones are not listed."""
    sim.config(list_page=2)
    made = {}
    for _ in range(5):
        one = run()
        nonce, box, token = one.create()
        made[box] = (nonce, token)
        die(one, "killed")
    other = run(str(uuid.uuid4()))
    other.create()
    last = run()
    found, code = last.list()
    assert code == "ok" and {box: nonce for box, (nonce, _) in found.items()} == {b: n for b, (n, _) in made.items()}
    assert all(abs(created / 1e6 - time.time()) < 300 for _, created in found.values())
    pages = sim.stats()["rpcs"]["SandboxListV2"]
    assert pages == 4
    for box, (nonce, token) in made.items():
        last.adopt(nonce, token)
        last.destroy()
    assert last.list() == ({}, "ok")
    other.destroy()


def test_list_one_at_a_time(run, sim):
    one = run()
    sim.faults({"kind": "latency", "method": "SandboxListV2", "ms": 300})
    one.tell("list\nlist")
    one.expect(f"refused {errno.EBUSY}")
    one.expect("listed ok")
    sim.faults({"kind": "hang", "method": "SandboxListV2"})
    one.tell("list")
    sim.until(lambda stats: stats["faults"].get("hang SandboxListV2"))
    one.process.stdin.close()  # the backend is freed while it lists
    assert one.process.wait(20) == 0


def test_calls_are_counted(run, sim, rpc):
    """As the simulator counts them, when nothing fails; then with their retries."""
    one = run()
    one.create()
    one.run(str(uuid.uuid4()), "echo hi")
    one.expect("started")
    one.expect("ended")
    one.destroy()

    def calls():
        one.tell("calls")
        lines = []
        while (line := one.line()) != "counted":
            lines.append(line.split(" "))
        return {(method, status): (int(n), int(retries), int(took)) for _, method, status, n, retries, took in lines}
    counted = calls()
    ended = {}
    for (method, _), (n, _, _) in counted.items():
        ended[method] = ended.get(method, 0) + n
    assert ended == sim.stats()["rpcs"]
    assert counted[rpc("SandboxWait"), "CANCELLED"][0] == 1 and counted[rpc("SandboxCreate"), "OK"][0] == 1
    assert all(n > 0 and took >= 0 for n, _, took in counted.values())
    sim.faults({"kind": "status", "method": "SandboxListV2", "count": 2})
    one.list()
    assert (calls()["SandboxListV2", "OK"][:2]) == (1, 2)
    sim.faults({"kind": "status", "method": "SandboxListV2", "code": "PERMISSION_DENIED"})
    one.list()
    assert calls()["SandboxListV2", "PERMISSION_DENIED"][:2] == (1, 0)


def test_pools_of_one_client_share_its_connections(run, sim):
    """Each template has its own sandboxes; all calls go over the connections that one template alone would have."""
    def connections_of(*pools):
        before = sim.stats()["wire"]["control connections"]
        one = run(*pools)
        for number, pool in enumerate(pools):
            one.tell("pool", str(number))
            nonce, box, _ = one.create()
            found, code = one.list()
            assert code == "ok" and list(found) == [box] and found[box][0] == nonce
            assert sim.stats()["sandboxes"]["live"][box]["tags"]["modalpool-pool"] == pool
            one.destroy()
        one.process.stdin.close()
        assert one.process.wait() == 0
        return sim.stats()["wire"]["control connections"] - before

    run().process.kill()  # now the image is there
    alone = connections_of(str(uuid.uuid4()))
    assert alone > 0
    assert connections_of(*(str(uuid.uuid4()) for _ in range(4))) == alone
