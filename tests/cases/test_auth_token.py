# SPDX-License-Identifier: MIT
"""The token that each call about V2 sandboxes brings along, and servers that do not know such calls."""

import pytest

from test_adopt import run, sim  # noqa: F401
from test_v2 import calls

pytestmark = [pytest.mark.modal, pytest.mark.exact]


# The token that each call of the second kind brings along


def test_one_token_for_all_pools(run, sim):  # noqa: F811
    """Two pools that need it at the same time ask for it once, and keep it."""
    one = run("first", "second")
    one.tell("list\npool 1\nlist")
    assert [one.expect("listed"), one.expect("listed")] == ["ok", "ok"]
    for _ in range(5):
        assert one.list() == ({}, "ok")
    assert calls(sim, "AuthTokenGet", "SandboxListV2", "SandboxList") == (1, 7, 0)


@pytest.mark.limit(60)
def test_token_is_renewed(run, sim):  # noqa: F811
    """At half of its life; one that cannot be renewed is used on, and one that is refused is not."""
    sim.config(auth_token_lifetime=8.0)
    one = run()
    while calls(sim, "AuthTokenGet") < (2,):
        assert one.list() == ({}, "ok")
    sim.faults({"kind": "status", "method": "AuthTokenGet"})
    while "status AuthTokenGet" not in sim.stats()["faults"]:
        assert one.list() == ({}, "ok")
    assert one.list() == ({}, "ok")
    stats = sim.stats()
    assert stats["faults"] == {"status AuthTokenGet": 1} and set(stats["statuses"]["SandboxListV2"]) == {"OK"}
    sim.faults()
    sim.expire_jwt(of="auth")
    assert one.list() == ({}, "ok")
    assert sim.stats()["statuses"]["SandboxListV2"]["UNAUTHENTICATED"] == 1
    assert sim.stats()["statuses"]["AuthTokenGet"] == {"OK": 3, "UNAVAILABLE": 1}


def test_token_that_says_no_end(run, sim):  # noqa: F811
    sim.config(auth_token_lifetime=0.0)
    one = run()
    for _ in range(5):
        assert one.list() == ({}, "ok")
    assert calls(sim, "AuthTokenGet") == (1,)


@pytest.mark.parametrize("token", ["", "none", "e30.e30.\u2028", "e30.e30.two words", "e30.e30.x\ny"],
                         ids=["empty", "no JWT", "unicode", "blank", "newline"])
def test_token_that_is_none(run, sim, token):  # noqa: F811
    sim.faults({"kind": "answer", "method": "AuthTokenGet", "fields": {"token": token}, "count": 1})
    one = run()
    assert one.list() == ({}, "failed")
    assert calls(sim, "SandboxListV2") == (0,)
    assert one.list() == ({}, "ok")


# A server that does not know the second kind


def test_list_without_v2(run, sim):  # noqa: F811
    """It says so once; from then on only the first kind's calls are used."""
    sim.config(v2=False)
    one = run()
    nonce, box, _ = one.create()
    other = run()
    for _ in range(3):
        for each in (one, other):
            found, code = each.list()
            assert code == "ok" and {box: nonce for box, (nonce, _) in found.items()} == {box: nonce}
    assert sum(calls(sim, "SandboxCreateV2", "SandboxListV2")) <= 2 and calls(sim, "SandboxList") == (12,)
    one.destroy()
