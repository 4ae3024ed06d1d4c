# SPDX-License-Identifier: MIT
"""Sandboxes at Modal that are not in the journal: which are ended, when, and which are left alone."""

import json
import os
import subprocess
import threading
import uuid

import pytest

from modal_sim import simulator

pytestmark = [pytest.mark.modal, pytest.mark.exact]

# Another client of Modal, which is not us: makes a sandbox in our app, with these tags.
PLANT = """
import json, sys, types
from modal_sim.client import Client, api_pb2
facts, tags = json.loads(sys.argv[1]), json.loads(sys.argv[2])
with Client(types.SimpleNamespace(**facts)) as client:
    client.app_id = client.call("AppGetOrCreate", api_pb2.AppGetOrCreateRequest(app_name="modalpool")).app_id
    print(client.create(tags).id)
"""


@pytest.fixture
def modal(settings):
    return settings.simulator


@pytest.fixture
def plant(modal):
    """plant(tag=value, …): the id of a new sandbox."""

    def make(**tags):
        facts = {"server_url": modal.server_url, "ca": modal.ca, "token_id": modal.token_id,
                 "token_secret": modal.token_secret}
        command = [simulator.interpreter(), "-c", PLANT, json.dumps(facts),
                   json.dumps({name.replace("_", "-"): value for name, value in tags.items()})]
        done = subprocess.run(command, env=dict(os.environ, PYTHONPATH=os.path.dirname(simulator.HERE)),
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return make


def pool_id(mp):
    return next(mp.state.glob("*/pool")).read_text().splitlines()[0]


def ended(modal):
    return {one["id"] for one in modal.sandboxes() if one["result"]}


def test_orphans_are_ended_and_nobody_elses(mount, modal, plant):
    """
    Two mounts of one app, one of them killed, and sandboxes that are in neither journal. Those that were made before the
    next start end at any age, later ones when they are a minute old.
    """
    a, b = mount(max=2), mount(max=2)
    lease, other = a.lease("a"), b.lease("b")
    lease.run("true")
    other.submit("echo begun; sleep 1000")
    other.until_running()
    mine, theirs = pool_id(a), pool_id(b)
    a.crash()
    orphans = {plant(modalpool_pool=mine, modalpool_create=str(uuid.uuid4())) for _ in range(2)}
    young = plant(modalpool_pool=mine, modalpool_create=str(uuid.uuid4()))
    others = {plant(modalpool_pool=theirs, modalpool_create=str(uuid.uuid4())), plant(),
              plant(modalpool_pool=str(uuid.uuid4()), modalpool_create=str(uuid.uuid4())), plant(modalpool_pool=mine),
              plant(modalpool_pool=mine, modalpool_create="by-hand")}
    for one in [*others, next(iter(orphans))]:
        modal.age_sandbox(one, 3600)
    modal.age_sandbox(young, -10)
    a.lines.clear()
    a.start()
    a.until(lambda: a.stats()["environments_orphans_total"] == 2 and a.environments()["ending"] == 0)
    assert ended(modal) == orphans
    assert lease.run("echo goes on") == ("goes on\n", 0)
    lease.release()
    a.stop()
    assert other.status()["running"] == "1"
    assert set(b.sandboxes()) == others | {young, other.read("environment").strip()}
    assert b.stats()["environments_orphans_total"] == 0
    for one in others | {young}:
        modal.kill_sandbox(one)


@pytest.mark.limit(150)
def test_creates_that_come_late(mount, modal, rpc):
    """
    Modal executes a create only after the next start, or reap, has listed the sandboxes and found nothing. Both list
    them again when a minute has passed.
    """
    a, b = mount(max=1), mount(max=1)
    modal.faults({"kind": "late", "method": rpc("SandboxCreate"), "ms": 10_000, "count": 2})
    lease, _ = a.lease(), b.lease()
    while modal.stats()["faults"] != {f"late {rpc('SandboxCreate')}": 2}:
        pass
    a.crash()
    b.crash()
    reaping = threading.Thread(target=lambda: setattr(b, "reaped", b.reap()))
    reaping.start()
    a.lines.clear()
    a.start()
    used = lease.read("environment").strip()
    a.until(lambda: a.environments()["ending"] == 0)
    assert a.sandboxes() == [used]
    while len(modal.sandboxes()) < 3:
        pass
    assert ended(modal) == set()
    a.until(lambda: a.stats()["environments_orphans_total"] == 1 and a.environments()["ending"] == 0)
    reaping.join()
    assert b.reaped.returncode == 0, b.reaped.stderr
    assert "2 environments ended, 1 of them not in the journal; 0 left" in b.reaped.stdout, b.reaped
    assert a.sandboxes() == [used] and list(b.state.iterdir()) == []


def test_reap_ends_young_ones_too(mount, modal, plant):
    mp = mount(max=1)
    mp.lease().run("true")
    mp.crash()
    plant(modalpool_pool=pool_id(mp), modalpool_create=str(uuid.uuid4()))
    done = mp.reap()
    assert done.returncode == 0, done.stderr
    assert "2 environments ended, 1 of them not in the journal; 0 left" in done.stdout, done.stdout
    assert mp.sandboxes() == []
