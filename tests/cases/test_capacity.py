# SPDX-License-Identifier: MIT
"""Modal: many sandboxes, and none because it has no room."""

import json
import os
import time

import pytest

from test_v2 import configured

pytestmark = [pytest.mark.modal, pytest.mark.exact]


def got_it(lease):
    """When the lease got its environment."""
    lease.read("environment")
    return os.stat(lease / "environment").st_mtime_ns


@pytest.mark.limit(240)
@pytest.mark.parametrize("kind, n, full", [("v2", 200, {"capacity": 1}), ("v1", 20, {"max_sandboxes": 1})])
def test_no_room(mount, calm, settings, kind, n, full):
    """Leases wait and are told so, and creates go on with pauses. Once there is room, all are served in their order."""
    if settings.slow > 1:
        n = min(n, 50)
    mp = mount(max=n + 1, creates=n, wait=600, sandbox=kind)
    with configured(calm, **full):
        first = mp.lease("first")
        assert first.run("echo works") == ("works\n", 0)
        leases = [mp.lease(f"t{i}") for i in range(n)]
        mp.until(lambda: mp.stats()["environments_create_failures_total"] >= n)
        for lease in leases:
            said = lease.read("error")
            assert "for lack of capacity" in said and said.endswith("; tried again until there is room\n")
            assert lease.status()["state"] == "waiting" and lease.status()["error"] == said.strip()
        assert first.run("echo works") == ("works\n", 0)
        refused = mp.stats()["environments_create_failures_total"]
    times = [got_it(lease) for lease in leases]
    assert times == sorted(times)
    assert len(calm.sandboxes()) == n + 1 and mp.environments()["leased"] == n + 1
    assert leases[0].read("error") == "ok\n" and leases[-1].run("echo last") == ("last\n", 0)
    assert mp.stats()["environments_create_failures_total"] < refused + 2 * n
    print(f"{refused} creates of {n} sandboxes were refused")


@pytest.mark.many
@pytest.mark.limit(1200)
def test_a_thousand_sandboxes(mount, calm):
    """At 40 creates a second: paced, counted, none lost."""
    n, rate = 1000, 40
    with configured(calm, max_sandboxes=2 * n):
        mp = mount(max=n, creates=n, create_rate=rate, wait=3600, stop_timeout=300)
        began = time.monotonic()
        with open(mp / ".pool/events", "rb", buffering=0) as file:
            os.set_blocking(file.fileno(), False)
            leases = [mp.lease(f"t{i}") for i in range(n)]
            sandboxes, text = set(), b""
            for lease in leases:
                sandboxes.add(lease.read("environment").strip())
                while more := file.read(1 << 20):
                    text += more
            took = time.monotonic() - began
            events = [json.loads(line) for line in text.splitlines()]
        assert len(sandboxes) == n == len(calm.sandboxes())
        assert mp.stats()["environments_created_total"] == n and mp.stats()["environments_create_failures_total"] == 0
        sent = [event["time"] for event in events if event["state"] == "creating"]
        assert len(sent) == n
        for i, first in enumerate(sent):  # a tenth of a second may be caught up
            for k in range(i + 1, n):
                assert sent[k] - first > (k - i - 1) / rate - 0.11, (i, k)
        assert {lease.run("echo $MODAL_SANDBOX_ID")[0].strip() for lease in leases} == sandboxes
        print(f"sent in {sent[-1] - sent[0]:.1f} s, all there after {took:.1f} s")
        for lease in leases:
            lease.release()
        mp.stop()
        assert not any(one["running"] for one in calm.sandboxes())
