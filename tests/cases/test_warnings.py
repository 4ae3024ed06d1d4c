# SPDX-License-Identifier: MIT
"""What Modal warns of beside its answers: told once, shown as long as it is new, and never a way to forge anything."""

import pytest

from test_hostile import EVIL, check_everything, events

pytestmark = pytest.mark.modal


def told(mp):
    """What events and log say of warnings: both have each once, in the same words."""
    texts = [e["reason"] for e in events(mp) if e.get("backend") == "modal" and e["state"] == "warning"]
    assert [line.split("modal warns: ", 1)[1] for line in mp.lines if "modal warns: " in line] == texts
    assert len(set(texts)) == len(texts)
    return texts


def test_control_plane_and_router(mount, calm):
    """They come with every answer and are told once, escaped."""
    mp = mount(max=1)
    calm.faults({"kind": "warning", "method": "Sandbox*", "message": "control: " + EVIL},
                {"kind": "warning", "method": "TaskExec*", "message": "router: " + EVIL})
    lease = mp.lease()
    for _ in range(3):
        assert lease.run("echo hi") == ("hi\n", 0)
    texts = told(mp)
    assert sorted(text.split(" ")[0] for text in texts) == ["control:", "router:"]
    assert all("evil state leased" in text for text in texts)
    check_everything(mp, lease)
    shown = [line for line in (mp / ".pool/status").read_text().split("\n") if line.startswith("warning ")]
    assert len(shown) == 2 and all("evil state leased" in line for line in shown)
    known = {one["text"]: one["count"] for one in mp.stats()["warnings"]}
    assert set(known) == set(texts) and known[next(t for t in texts if t.startswith("router"))] > 3
    calm.faults()


@pytest.mark.parametrize("encoded", [False, True], ids=["", "as it is"])
def test_of_a_call_that_fails(mount, calm, encoded):
    """Also several at one time. What is not percent-encoded is taken as it is."""
    mp = mount(max=1)
    warnings = [{"kind": "warning", "method": "SandboxCreate*", "message": f"number {i}", "encoded": encoded} for i in range(3)]
    calm.faults(*warnings, {"kind": "status", "code": "INVALID_ARGUMENT", "method": "SandboxCreate*", "message": "no"})
    mp.lease()
    mp.until(lambda: mp.stats()["trouble"])
    assert sorted(told(mp)) == ["number 0", "number 1", "number 2"]
    calm.faults()


def test_only_so_many(mount, calm):
    """Of those that all differ, a few are told, and fewer are kept."""
    mp = mount(max=1)
    calm.faults(*({"kind": "warning", "method": "SandboxCreate*", "message": f"{i} " + "long " * 100} for i in range(50)))
    assert mp.lease().run("echo hi") == ("hi\n", 0)
    texts = told(mp)
    assert len(texts) == 32 and max(map(len, texts)) == 255 and len(mp.stats()["warnings"]) == 16
    calm.faults()


def test_at_the_start(mount, calm):
    """Before anybody can read the events; and the first call of all has it."""
    calm.faults({"kind": "warning", "method": "EnvironmentGetOrCreate", "message": "at the start"})
    mp = mount()
    assert told(mp) == ["at the start"]
    calm.faults()
