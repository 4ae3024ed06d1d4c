# SPDX-License-Identifier: MIT
""".pool/: status, stats, metrics, config and events, for people and for programs."""

import json
import os
import re
import subprocess
import threading
import time

import pytest

import prometheus
from harness import seconds
from test_lease import fails



@pytest.mark.small
def test_status(mount):
    mp = mount(max=1)
    lease = mp.lease("leased one")
    environment = lease.read("environment").strip()
    mp.lease("waiting one")
    text = (mp / ".pool/status").read_text()
    counts, environments, leases = [part.splitlines() for part in text.split("\n\n")]
    counts = dict(re.split("  +", line, maxsplit=1) for line in counts)
    assert counts["backend"] == mp.settings.provider
    assert counts["environments"].startswith("1 of 1: ") and "1 leased" in counts["environments"]
    assert counts["leases"] == "2: 1 waiting, 1 leased, 0 lost, 0 failed"
    assert any(line.startswith(environment + " ") and " leased   leased one " in line for line in environments[1:])
    assert leases[1].startswith("leased one ") and environment in leases[1]
    assert leases[2].startswith("waiting one ") and " waiting " in leases[2] and " 0/0/0 " in leases[2]
    assert len(leases) == 3 and all(len(line) <= 100 for line in text.splitlines() if not line.startswith("trouble"))
    for head, *rows in environments, leases:
        assert all(len(row) == len(head) for row in rows), text
    assert (mp / ".pool/status").stat().st_size == len(text.encode())


@pytest.mark.small
def test_stats(mount):
    mp = mount(max=3, min=0)
    mp.lease().run("true")
    stats = mp.stats()
    assert stats["backend"] == mp.settings.provider and stats["leases"] == 1 and stats["leases_waiting"] == 0
    assert stats["environments_max"] == 3 and stats["environments_min"] == 0
    assert set(stats["environments"]) == {"creating", "idle", "leased", "cleaning", "ending"}
    assert stats["environments"]["leased"] == 1 and stats["leases_granted_total"] == 1
    assert all(isinstance(value, int) for key, value in stats.items() if key.endswith("_total"))
    assert mp.sh("python3 -m json.tool .pool/stats").returncode == 0


def test_lists_in_stats(mount):
    """Every environment and every lease, with what a program needs to judge them."""
    mp = mount(max=1)
    first, second = mp.lease("first"), mp.lease("second")
    environment = first.read("environment").strip()
    first.run("true")
    first.submit("sleep 1000")
    first.submit("true")
    first.until_running(2)
    stats = mp.stats()
    holds, waits = stats["lease_list"]
    assert (holds["name"], holds["state"], holds["environment"]) == ("first", "leased", environment)
    assert (holds["owner"], holds["running"], holds["queued"], holds["ended"]) == (os.getuid(), 2, 1, 1)
    assert holds["unused_seconds"] is None and holds["age_seconds"] >= holds["wait_seconds"] >= 0
    assert (waits["name"], waits["state"], waits["environment"], waits["running"]) == ("second", "waiting", None, None)
    assert 0 < waits["wait_seconds"] <= waits["age_seconds"]
    assert stats["leases_by_state"] == {"waiting": 1, "leased": 1, "lost": 0, "failed": 0}
    assert stats["jobs"] == {"queued": 1, "starting": 0, "running": 1} and stats["jobs_ended"]["ok"] == 1
    lent = next(one for one in stats["environment_list"] if one["state"] == "leased")
    assert (lent["id"], lent["lease"], lent["uses"]) == (environment, "first", 1)
    assert lent["age_seconds"] >= lent["state_seconds"] >= 0
    if mp.settings.provider == "modal":
        assert 0 < lent["left_seconds"] < 86400
    second.release()
    first.write("ctl", "cancel\nkill\n")
    assert first.read("jobs/2/exit_code") == "137\n"
    mp.until(lambda: mp.stats()["lease_list"][0]["unused_seconds"] is not None)
    ended = mp.stats()["jobs_ended"]
    assert ended == {"ok": 1, "failed": 0, "timeout": 0, "killed": 1, "output": 0, "cancelled": 1,
                     "lost": 0, "unknown": 0}
    assert mp.stats()["jobs_submitted_total"] == 3


def test_output_is_counted(mp):
    mp.lease().run("printf 12345; printf 678 >&2")
    assert mp.stats()["output_bytes_total"] == 8


def test_waiting_reads(mp):
    lease = mp.lease()
    lease.submit("sleep 1000")
    lease.until_running()
    assert mp.stats()["reads_waiting"] == 0 and "reads  " not in (mp / ".pool/status").read_text()
    reader = subprocess.Popen(["cat", lease / "output"])
    while mp.stats()["reads_waiting"] != 1:  # no event tells of it
        time.sleep(0.01)
    stats = mp.stats()
    assert stats["reads_waiting"] == 1 and stats["reads_oldest_wait_seconds"] > 0
    assert "reads         1 wait, the first for " in (mp / ".pool/status").read_text()
    lease.write("ctl", "kill\n")
    reader.wait()
    assert mp.stats()["reads_waiting"] == mp.stats()["reads_oldest_wait_seconds"] == 0


@pytest.mark.quick
def test_turns_of_the_loop(mp):
    """Turns are measured, and the sleep between them is not."""
    lease = mp.lease()
    lease.run("true")
    before = mp.stats()
    took, _ = seconds(lambda: lease.run("sleep 1"))
    after = mp.stats()
    turns = after["loop_turn_seconds_count"] - before["loop_turn_seconds_count"]
    busy = after["loop_turn_seconds_sum"] - before["loop_turn_seconds_sum"]
    assert turns >= 1 and 0 < busy < took - 0.5  # what comes at once on a busy machine is one turn
    assert after["loop_longest_turn_seconds"] >= after["loop_longest_turn_of_minute_seconds"] > 0
    assert after["loop_longest_turn_seconds"] * after["loop_turn_seconds_count"] >= after["loop_turn_seconds_sum"]


def test_lease_held_without_a_job(mount):
    """The log names it after each such time, but not a lease that works."""
    mp = mount(held_warning="0.3")
    works, forgotten = mp.lease("works"), mp.lease("forgotten")
    works.submit("sleep 1000")
    works.until_running()
    environment = forgotten.read("environment").strip()
    fd = os.open(mp / ".pool/events", os.O_RDONLY)
    for _ in range(2):
        event = lines_from(fd, '"lease":"forgotten","state":"unused"')[-1]
        assert environment in event["reason"]
    os.close(fd)
    assert mp.stats()["lease_list"][1]["unused_seconds"] > 0.5
    mp.stop()
    lines = [line for line in mp.lines if "without a job" in line]
    assert len(lines) >= 2 and all(f"lease=forgotten environment={environment} owner={os.getuid()}: has held" in line
                                   for line in lines if "forgotten" in line)
    assert sum("lease=works" in line for line in lines) <= 1  # before its job ran, on a slow machine


@pytest.mark.small
def test_metrics(mp):
    """Prometheus text, read by a strict parser; the values are those of stats."""
    mp.lease().run("true")
    mp.until_settled()
    families = prometheus.parse((mp / ".pool/metrics").read_text())
    stats = mp.stats()
    values = {}
    for name, (kind, samples) in families.items():
        assert name.startswith("modalpool_") and (kind == "counter") == name.endswith("_total"), name
        values.update(samples)
    known = 0
    for key, value in stats.items():
        if isinstance(value, (int, float)) and not key.startswith("loop_") and key != "leases":
            assert values[f"modalpool_{key}",] == pytest.approx(value), key
            known += 1
    assert known >= 20
    assert all(("modalpool_" + key,) in values for key in stats if key.startswith("loop_"))
    for key, name, label in (("environments", "environments", "state"), ("leases_by_state", "leases", "state"),
                             ("environments_returned", "environments_returned_total", "how"),
                             ("jobs", "jobs", "state"), ("jobs_ended", "jobs_ended_total", "end")):
        assert families["modalpool_" + name][1] == {("modalpool_" + name, (label, word)): number
                                                    for word, number in stats[key].items()}
    for key, name in (("count", "calls_total"), ("retries", "calls_retries_total"), ("seconds", "calls_seconds_total")):
        assert set(families["modalpool_" + name][1]) == {
            ("modalpool_" + name, ("method", call["method"]), ("status", call["status"])) for call in stats["calls"]}, key


HEAD = "# HELP a A.\n# TYPE a gauge\n"


@pytest.mark.parametrize("text", [
    HEAD + "a 1", HEAD + "a{b=\"c\"} 1\n\n", HEAD + "a 1\na 2\n", HEAD + "b 1\n", "# TYPE a gauge\na 1\n", HEAD + HEAD + "a 1\n",
    HEAD + "a one\n", HEAD + "a{b=\"c} 1\n", HEAD + 'a{b="c"d"} 1\n', HEAD + 'a{b="\\x"} 1\n', HEAD + 'a{b="c",b="d"} 1\n',
    "# HELP a A.\n# TYPE a strange\na 1\n", HEAD + "# HELP b B.\na 1\n", "# HELP a A.\n# TYPE a summary\na 1\n"])
def test_the_parser_is_strict(text):
    assert prometheus.parse(HEAD + 'a{b="\\"\\\\\\n"} 1.5\n')["a"] == ("gauge", {("a", ("b", '"\\\n')): 1.5})
    with pytest.raises((AssertionError, ValueError)):
        prometheus.parse(text)


def test_config(mount, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"wait": 7, "max": 9, "min": 1, "oversubscribe": False, "output_max": "2M"}))
    mp = mount(environment={"TERMINAL_MODAL_POOL_MAX": "6", "TERMINAL_TIMEOUT": "33"}, config=str(file), min=2, env="A=1,2")
    config = json.loads((mp / ".pool/config").read_text())
    expected = {"wait": (7, "file"), "max": (6, "environment"), "min": (2, "command line"), "oversubscribe": (False, "file"),
                "timeout": (33, "environment"), "output_max": (2 << 20, "file"), "history": (256, "default"),
                "env": ("***", "command line"), "mode": ("pool", "default")}
    for name, (value, source) in expected.items():
        assert config[name] == {"value": value, "source": source}, name
    mp.ctl("max 5")
    assert json.loads((mp / ".pool/config").read_text())["max"] == {"value": 5, "source": "ctl"}
    lease = mp.lease()
    assert lease.read("timeout") == "33\n"
    assert lease.run("echo $A") == ("1,2\n", 0)


def lines_from(fd, until):
    """Events from an open file, up to one that holds a text."""
    text = ""
    while until not in text or not text.endswith("\n"):
        text += os.read(fd, 1 << 16).decode()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.small
def test_events(mp):
    lease = mp.lease()
    lease.run("true")
    lease.release()
    mp.until_settled()
    fd = os.open(mp / ".pool/events", os.O_RDONLY)
    events = lines_from(fd, '"state":"released"')
    assert all(event["time"] > 1e9 for event in events)
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert [e["state"] for e in events if e.get("lease") == "t1" and "environment" not in e] == ["waiting", "leased", "released"]
    assert [e["state"] for e in events if e.get("job") == "t1/1"] == ["queued", "starting", "running", "ended"]
    os.close(fd)


@pytest.mark.exact
def test_events_of_an_environment(mp):
    """Each change of its state, with the lease that has it; its death before its end, with the reason."""
    first = mp.lease("first")
    first.run("true")
    first.release()
    mp.until_settled()
    second = mp.lease("second")
    second.run("true")
    mp.murder(mp.sandboxes())
    mp.until(lambda: second.status()["state"] == "lost")
    fd = os.open(mp / ".pool/events", os.O_RDONLY)
    events = [e for e in lines_from(fd, '"state":"gone"') if "environment" in e]
    os.close(fd)
    assert [(e["state"], e.get("lease")) for e in events] == [
        ("creating", None), ("idle", None), ("leased", "first"), ("cleaning", None), ("idle", None), ("leased", "second"),
        ("died", "second"), ("ending", None), ("gone", None)]
    assert len({e["environment"] for e in events[1:]}) == 1
    assert [e["state"] for e in events if "reason" in e] == ["died"] and events[6]["reason"] == second.read("error").strip()


def test_events_wait_for_the_next(mp):
    fd = os.open(mp / ".pool/events", os.O_RDONLY)
    while True:
        os.set_blocking(fd, False)
        try:
            os.read(fd, 1 << 17)
        except BlockingIOError:
            break
    os.set_blocking(fd, True)
    threading.Timer(0.3, os.mkdir, (mp / "later",)).start()
    took, events = seconds(lambda: lines_from(fd, "later"))
    assert took >= 0.2 and events[0]["lease"] == "later" and events[0]["state"] == "waiting"
    os.close(fd)


def test_events_for_each_reader(mp):
    """Each open reads for itself, from the oldest that is kept."""
    mp.lease("one")
    first, second = (os.open(mp / ".pool/events", os.O_RDONLY) for _ in range(2))
    assert lines_from(first, '"lease":"one"')[0] == lines_from(second, '"lease":"one"')[0]
    os.close(first), os.close(second)
    assert mp.sh("head -n 1 .pool/events").stdout.count("\n") == 1


def test_slow_reader_of_events(mount):
    """Who falls behind is told how much was missed."""
    mp = mount(max=1, log="info")
    fd = os.open(mp / ".pool/events", os.O_RDONLY)
    for i in range(2500):
        os.mkdir(mp / f"t{i}")
        os.rmdir(mp / f"t{i}")
    text = os.read(fd, 1 << 17).decode()
    assert json.loads(text.splitlines()[0])["missed"] > 0
    os.mkdir(mp / "last")
    assert lines_from(fd, '"last"')
    os.close(fd)


def test_names_in_text_files(mp):
    """Names cannot break a line or a format."""
    for name in ('a"b\\c', "x y", "{}", "日本", "%s"):
        lease = mp.lease(name)
        lease.run("true")
        lease.release()
    json.loads((mp / ".pool/stats").read_text())
    assert prometheus.parse((mp / ".pool/metrics").read_text())
    fd = os.open(mp / ".pool/events", os.O_RDONLY)
    names = {e.get("lease") for e in lines_from(fd, '"job":"%s/1","state":"ended"')}
    assert {'a"b\\c', "x y", "{}", "日本", "%s"} <= names
    os.close(fd)


def test_partial_reads_are_one_picture(mp):
    """A file read in small pieces is as it was at the first."""
    with open(mp / ".pool/stats", "rb", buffering=0) as file:
        text = file.read(10)
        mp.lease()
        while chunk := file.read(10):
            text += chunk
    assert json.loads(text)["leases"] == 0


def test_read_only_files(mp):
    for name in ("status", "stats", "metrics", "config", "events"):
        with pytest.raises(OSError):
            open(mp / ".pool" / name, "w")
