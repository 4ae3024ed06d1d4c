# SPDX-License-Identifier: MIT
"""The pool: how many environments there are, which lease gets one when, and what .pool/ctl does."""

import errno
import json
import os
import threading

import pytest

from harness import seconds
from test_lease import fails


SETTINGS = {"max": 3, "min": 1, "max_total": 50, "wait": 2.5, "oversubscribe": False, "creates": 7, "create_rate": 50,
            "max_uses": 9, "idle_timeout": 0, "file_timeout": 20, "keepalive": 0, "probe_timeout": 0.5, "max_lifetime": 3600, "min_life": 30}


def held(mp):
    return mp.environments()["leased"]


@pytest.mark.small
def test_on_demand(mp):
    """Environments are created on demand, and no lease waits while one is idle."""
    assert len(mp.sandboxes()) == 0
    lease = mp.lease()
    lease.read("environment")
    assert len(mp.sandboxes()) >= 1
    lease.release()
    mp.until_settled()


@pytest.mark.exact
def test_environments_are_lent_again(mount):
    mp = mount(max=2)
    seen = set()
    for i in range(20):
        lease = mp.lease(f"t{i}")
        seen.add(lease.read("environment"))
        assert lease.run("ls -A") == ("", 0)
        lease.release()
    assert len(seen) <= 2
    stats = mp.stats()
    assert stats["environments_created_total"] <= 2 and stats["leases_granted_total"] == 20
    mp.until(lambda: mp.stats()["environments_cleaned_total"] == 20)


@pytest.mark.small
def test_max(mount):
    mp = mount(max=2)
    leases = [mp.lease(f"t{i}") for i in range(5)]
    for lease in leases:
        lease.submit(f"echo {lease.name}; sleep 1000")
    for lease in leases[:2]:
        with open(lease / "output", "rb", buffering=0) as output:
            assert output.read(3).decode() == lease.name + "\n"
    assert [lease.status()["state"] for lease in leases] == ["leased"] * 2 + ["waiting"] * 3
    assert mp.stats()["leases_waiting"] == 3 and held(mp) == 2
    for i, lease in enumerate(leases[:3]):
        lease.release()
        with open(leases[i + 2] / "output", "rb", buffering=0) as output:
            assert output.read(3).decode() == leases[i + 2].name + "\n"
        environments = mp.environments()
        assert environments["leased"] <= 2
    assert not mp.stats()["oversubscribed_total"]


def test_first_come_first_served(mount):
    """Leases get environments in the order of their mkdir, however they ask."""
    mp = mount(max=1)
    first = mp.lease("first")
    first.read("environment")
    names = [f"t{i}" for i in (7, 3, 9, 1, 8, 2, 6, 0, 5, 4)]
    order, threads = [], []

    def user(lease):
        lease.read("environment")
        order.append(lease.name)
        lease.release()

    leases = [mp.lease(name) for name in names]
    for lease in reversed(leases):
        threads.append(threading.Thread(target=user, args=(lease,)))
        threads[-1].start()
    first.release()
    for thread in threads:
        thread.join()
    assert order == names


def test_who_leaves_the_line(mount):
    mp = mount(max=1)
    first = mp.lease("first")
    first.read("environment")
    leases = [mp.lease(f"t{i}") for i in range(6)]
    for i in (0, 2, 3):
        leases[i].release()
    first.release()
    for i in (1, 4, 5):
        leases[i].read("environment")
        assert [lease.status()["state"] for lease in leases if lease.path.exists()][0] == "leased"
        leases[i].release()


# beyond max

@pytest.mark.small
def test_oversubscription(mount):
    """After `wait`, a temporary environment over max, which ends when it is released."""
    mp = mount(max=1, wait="0.5")
    first = mp.lease("first")
    first.read("environment")
    lease = mp.lease("second")
    took, _ = seconds(lambda: lease.read("environment"))
    assert 0.3 < took
    assert held(mp) == 2 and mp.stats()["oversubscribed_total"] >= 1
    assert lease.run("echo both") == first.run("echo both") == ("both\n", 0)
    lease.release()
    mp.until_settled()
    assert sum(mp.environments().values()) == 1
    first.release()
    mp.until_settled()
    assert sum(mp.environments().values()) <= 1


@pytest.mark.exact
def test_shrinking_back(mount):
    mp = mount(max=2, wait="0.2")
    leases = [mp.lease(f"t{i}") for i in range(6)]
    for lease in leases:
        lease.read("environment")
        lease.run("true")
    assert held(mp) == 6
    for lease in leases:
        lease.release()
    mp.until_settled()
    assert mp.environments() == {"creating": 0, "idle": 2, "leased": 0, "cleaning": 0, "ending": 0}
    assert len(mp.sandboxes()) == 2


def test_no_oversubscription(mount):
    mp = mount(max=1, min=1, wait="0.3", oversubscribe=False)
    mp.until(lambda: mp.environments()["idle"] == 1)  # the first lease does not wait
    first = mp.lease("first")
    first.read("environment")
    lease = mp.lease()
    lease.submit("echo queued")
    output = open(lease / "output", "rb", buffering=0)
    fails(errno.ETIMEDOUT, lease.read, "environment")
    fails(errno.EIO, output.read, 10)
    output.close()
    fails(errno.EIO, lease.read, "exit_code")
    fails(errno.ETIMEDOUT, os.open, lease / "cmd", os.O_WRONLY)
    assert lease.status()["state"] == "failed"
    for word in ("waited 0", "1 ", "max"):
        assert word in lease.read("error")
    assert lease.read("jobs/1/error") == lease.read("error")
    first.release()
    lease.write("ctl", "renew\n")
    assert lease.run("echo after all") == ("after all\n", 0)
    done = mp.sh("mkdir x && cat x/environment", check=False)
    assert done.returncode == 1 and "timed out" in done.stderr.lower()


def test_max_per_user(mount):
    """A user's further lease waits although there is room, and says what would help."""
    mp = mount(max=3, max_per_user=1, wait=2, oversubscribe=False)
    first = mp.lease("first")
    first.read("environment")
    second = mp.lease()
    waits = f"waits because of max_per_user=1: leases of uid {os.getuid()} hold 1, and 0 wait before this one"
    assert waits in second.read("error") and second.status()["state"] == "waiting" and waits in second.status()["error"]
    fails(errno.ETIMEDOUT, second.read, "environment")
    for word in (f"uid {os.getuid()}", "max_per_user", "release a lease"):
        assert word in second.read("error")
    assert sum(mp.environments().values()) == 1
    first.release()
    second.write("ctl", "renew\n")
    assert second.run("echo mine now") == ("mine now\n", 0)


def test_direct_mode(mount):
    """Every lease has a sandbox of its own, which rmdir ends."""
    mp = mount(max=1, mode="direct")
    leases = [mp.lease(f"t{i}") for i in range(3)]
    ids = {lease.read("environment") for lease in leases}
    assert len(ids) == 3
    for lease in leases:
        assert lease.run("echo hi") == ("hi\n", 0)
        lease.release()
    mp.until_settled()
    assert sum(mp.environments().values()) == 0


# kept warm

@pytest.mark.small
def test_min(mount):
    mp = mount(min=2, max=4)
    mp.until(lambda: mp.environments()["idle"] == 2)
    before = set(mp.sandboxes())
    lease = mp.lease()
    lease.read("environment")
    assert before & set(mp.sandboxes())
    mp.until(lambda: mp.environments()["idle"] == 2)
    leases = [mp.lease(f"x{i}") for i in range(3)]
    for one in leases:
        one.read("environment")
    assert sum(mp.environments().values()) - mp.environments()["ending"] <= 4


def test_prewarm(mount):
    mp = mount(max=3)
    mp.ctl("prewarm 3")
    mp.until(lambda: mp.environments()["idle"] == 3)
    mp.lease().read("environment")
    assert mp.stats()["leases_granted_warm_total"] == 1
    fails(errno.EINVAL, mp.ctl, "prewarm 4")


def test_max_and_min_by_ctl(mount):
    mp = mount(max=1)
    first, second = mp.lease("first"), mp.lease("second")
    first.read("environment")
    assert second.status()["state"] == "waiting"
    mp.ctl("max 2")
    second.read("environment")
    assert mp.stats()["environments_max"] == 2
    mp.ctl("max 1")
    second.release()
    mp.until_settled()
    assert sum(mp.environments().values()) <= 2
    mp.ctl("max 3")
    mp.ctl("min 2")
    mp.until(lambda: mp.environments()["idle"] >= 2)
    fails(errno.EINVAL, mp.ctl, "max 1")
    fails(errno.EINVAL, mp.ctl, "min 9")


@pytest.mark.exact
def test_lower_max(mount):
    """Environments over a lowered max end, idle ones too."""
    mp = mount(max=3)
    leases = [mp.lease(f"t{i}") for i in range(3)]
    for lease in leases:
        lease.run("true")
    mp.ctl("max 1")
    for lease in leases:
        lease.release()
    mp.until(lambda: sum(mp.environments().values()) == 1)
    mp.ctl("max 3")
    mp.ctl("prewarm 3")
    mp.until(lambda: mp.environments()["idle"] == 3)
    mp.ctl("max 1")
    mp.until(lambda: sum(mp.environments().values()) == 1)


def test_drain_and_resume(mp):
    lease = mp.lease()
    mp.ctl("drain")
    fails(errno.EAGAIN, os.mkdir, mp / "t2")
    assert lease.run("echo goes on") == ("goes on\n", 0)
    mp.ctl("resume")
    assert mp.lease("t2").run("echo again") == ("again\n", 0)


def test_recycle(mp):
    """No environment that exists now is lent again."""
    lease = mp.lease()
    old = lease.read("environment")
    other = mp.lease("other")
    idle = other.read("environment")
    other.release()
    mp.until_settled()
    mp.ctl("recycle")
    assert lease.run("echo still mine") == ("still mine\n", 0) and lease.read("environment") == old
    lease.release()
    mp.until_settled()
    new = {mp.lease(f"n{i}").read("environment") for i in range(3)}
    assert not new & {old, idle}


def test_options_by_ctl(mp):
    """Each says where its value came from; a value that does not fit is refused in the option's own words."""
    for name, value in SETTINGS.items():
        mp.ctl(f"{name} {'no' if value is False else value}")
    config = json.loads((mp / ".pool/config").read_text())
    assert {name: config[name] for name in SETTINGS} == \
        {name: {"value": value, "source": "ctl"} for name, value in SETTINGS.items()}
    assert config["history"]["source"] == "default"
    for line, words in (("max 0", "option max=0: expected a whole number from 1 to 100000"),
                        ("min 4", "option min=4: more than max=3"),
                        ("probe_timeout 0.01", "option probe_timeout=0.01: expected seconds, at least 0.1")):
        fails(errno.EINVAL, mp.ctl, line)
        assert mp.hears(words)
    assert json.loads((mp / ".pool/config").read_text()) == config


@pytest.mark.exact
@pytest.mark.limit(120)
def test_create_rate(mount, settings):
    """As many a second and no more, and each lease has its environment in the end."""
    n, rate = 100 if settings.provider == "modal" else 30, 40
    mp = mount(max=n, creates=n, create_rate=rate, wait=100)
    before = mp.stats()["environments_created_total"]
    leases = [mp.lease(f"t{i}") for i in range(n)]
    assert len({lease.read("environment") for lease in leases}) == n
    assert mp.stats()["environments_created_total"] - before == n
    with open(mp / ".pool/events", encoding="utf-8") as file:
        os.set_blocking(file.fileno(), False)
        events = [json.loads(line) for line in (file.read() or "").splitlines()]
    sent = [event["time"] for event in events if event["state"] == "creating" and "lease" not in event][-n:]
    for i, first in enumerate(sent):  # a tenth of a second may be caught up
        for k in range(i + 1, n):
            assert sent[k] - first > (k - i - 1) / rate - 0.11, (i, k)
    assert leases[-1].run("echo last") == ("last\n", 0)


def test_wait_by_ctl(mount):
    """It also applies to leases that already wait."""
    mp = mount(max=1, oversubscribe=False)
    mp.lease("first").read("environment")
    lease = mp.lease()
    assert lease.status()["state"] == "waiting"
    mp.ctl("wait 0")
    fails(errno.ETIMEDOUT, lease.read, "environment")
    mp.ctl("oversubscribe yes")
    lease.write("ctl", "renew\n")
    lease.read("environment")


@pytest.mark.exact
def test_idle_timeout(mount):
    """Environments that are idle for too long end, down to min; a new idle_timeout applies to those that are idle now."""
    mp = mount(max=3)
    mp.ctl("prewarm 3")
    mp.until(lambda: mp.environments()["idle"] == 3)
    mp.ctl("min 1")
    mp.ctl("idle_timeout 0.1")
    mp.until(lambda: mp.environments()["idle"] == 1)
    mp.until_settled()
    assert len(mp.sandboxes()) == 1


def test_bad_words_in_ctl(mp):
    for line in ("nonsense", "max", "max x", "max -1", "max 0", "min x", "drain now", "resume 1", "recycle 1", "prewarm",
                 "prewarm -1", "max 1 2", "max 99999999999999999999", "wait", "wait soon", "oversubscribe", "oversubscribe 2",
                 "creates 0", "creates 1001", "probe_timeout 0", "keepalive -1", "idle_timeout=5", "mode direct",
                 "image debian", "token_secret x"):
        fails(errno.EINVAL, mp.ctl, line)
    done = mp.sh("echo frobnicate > .pool/ctl", check=False)
    assert done.returncode == 1 and "Invalid argument" in done.stderr
    assert mp.hears("frobnicate")
    assert {line.split()[0] for line in (mp / ".pool/ctl").read_text().splitlines()} == \
        {"prewarm", "drain", "resume", "recycle", *SETTINGS}
    assert mp.lease().run("echo fine") == ("fine\n", 0)


def test_a_hundred_leases_over_four(mount):
    """All finish, each with its own output, none twice."""
    mp = mount(max=4)
    done = mp.sh("for i in $(seq 100); do { mkdir t$i && echo \"echo $i; exit $((i % 7))\" > t$i/cmd &&"
                 " echo $i $(cat t$i/output t$i/exit_code) && rmdir t$i; } & done; wait")
    assert sorted(done.stdout.splitlines()) == sorted(f"{i} {i} {i % 7}" for i in range(1, 101))
    mp.until_settled()
    stats = mp.stats()
    assert stats["leases_granted_total"] == 100 and stats["oversubscribed_total"] == 0
    assert sum(stats["environments"].values()) <= 4
    assert os.listdir(mp.path) == [".pool"]
