# SPDX-License-Identifier: MIT
""".pool/: status, stats, metrics, config and events, for people and for programs."""

import json
import os
import re
import threading

import pytest

from harness import seconds
from test_lease import fails

METRIC = re.compile(r'^(modalpool_[a-z_]+)(\{[a-z_]+="[^"\\\n]*"(,[a-z_]+="[^"\\\n]*")*\})? (\d+(\.\d+)?)$')


@pytest.mark.small
def test_status(mount):
    mp = mount(max=1)
    lease = mp.lease("leased one")
    environment = lease.read("environment").strip()
    mp.lease("waiting one")
    text = (mp / ".pool/status").read_text()
    head, *lines = text.splitlines()
    assert "leases 2 (1 waiting)" in head and "of 1" in head
    assert any(line.startswith(environment) and "leased one" in line for line in lines)
    assert any("waiting one" in line and "waiting" in line for line in lines)
    assert (mp / ".pool/status").stat().st_size == len(text)


@pytest.mark.small
def test_stats(mount):
    mp = mount(max=3, min=0)
    mp.lease().run("true")
    stats = mp.stats()
    assert stats["backend"] in (mp.settings.provider, "fault") and stats["leases"] == 1 and stats["leases_waiting"] == 0
    assert stats["environments_max"] == 3 and stats["environments_min"] == 0
    assert set(stats["environments"]) == {"creating", "idle", "leased", "cleaning", "ending"}
    assert stats["environments"]["leased"] == 1 and stats["leases_granted_total"] == 1
    assert all(isinstance(value, int) for key, value in stats.items() if key.endswith("_total"))
    assert mp.sh("python3 -m json.tool .pool/stats").returncode == 0


@pytest.mark.small
def test_metrics(mp):
    """Prometheus text: each series has HELP and TYPE before it, and the values are those of stats."""
    mp.lease().run("true")
    described, typed, values = set(), {}, {}
    for line in (mp / ".pool/metrics").read_text().splitlines():
        if line.startswith("# HELP "):
            described.add(line.split()[2])
        elif line.startswith("# TYPE "):
            typed[line.split()[2]] = line.split()[3]
        else:
            match = METRIC.match(line)
            assert match, line
            name = match[1]
            assert name in described and name in typed
            assert (typed[name] == "counter") == name.endswith("_total")
            assert (name, match[2]) not in values
            values[name, match[2]] = float(match[4])
    stats = mp.stats()
    for key, value in stats.items():
        if isinstance(value, int):
            assert values[f"modalpool_{key}", None] == value
    for state, value in stats["environments"].items():
        assert values["modalpool_environments", '{state="%s"}' % state] == value


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
    assert all(METRIC.match(line) or line.startswith("# ") for line in (mp / ".pool/metrics").read_text().splitlines())
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
