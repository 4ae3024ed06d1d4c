"""What sandboxes cost, one by one and by tag."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2

CORE, GIB = 0.00003942, 0.00000672


def stats(client, box, method="SandboxGetStats", **fields):
    return client.call(method, api_pb2.SandboxGetStatsRequest(sandbox_id=box.id, **fields))


@pytest.mark.parametrize("kind", ["", "V2"])
def test_an_hour_of_one_sandbox(client, sim, kind):
    resources = api_pb2.Resources(milli_cpu=2000, memory_mb=4096)
    with client.create_v2(resources=resources) if kind else client.create(resources=resources) as box:
        box.run("true")
        sim.age_sandbox(box.id, 3600)
        said = stats(client, box, "SandboxGetStats" + kind)
        assert float(said.cost) == pytest.approx(3600 * (2 * CORE + 4 * GIB), rel=0.02)
        assert float(said.cost_by_resource["cpu"]) == pytest.approx(3600 * 2 * CORE, rel=0.02)
        assert said.duration_hours == pytest.approx(1, rel=0.02)
        assert said.billed_memory_gib_seconds == pytest.approx(4 * 3600, rel=0.02)
        half = Timestamp(seconds=said.since.seconds + 1800)
        assert float(stats(client, box, "SandboxGetStats" + kind, until=half).cost) == pytest.approx(
            float(said.cost) / 2, rel=0.02)
        sim.kill_sandbox(box.id)
        assert stats(client, box, "SandboxGetStats" + kind).cost == stats(client, box, "SandboxGetStats" + kind).cost


def test_by_tag_in_pages(client, sim):
    for n, (pool, kind) in enumerate((("a", 1), ("a", 2), ("b", 2))):
        box = (client.create_v2 if kind == 2 else client.create)({"pool": pool, "owner": "me"})
        box.run("true")
        sim.age_sandbox(box.id, 1000)
    sim.kill_sandbox(box.id)
    client.create({"pool": "c", "owner": "you"})

    def groups(**fields):
        request = api_pb2.SandboxGetTimeRangeStatsRequest(app_id=client.app(), **fields)
        found = []
        while True:
            page = client.call("SandboxGetTimeRangeStats", request)
            found += [({k: v.value if v.HasField("value") else None for k, v in g.tags.items()}, g.cost_str, g.cost, dict(g.cost_by_resource_str)) for g in page.groups]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token
    one = 1000 * (0.125 * CORE + 0.125 * GIB)
    for page in (20, 1):
        sim.config(list_page=page)
        found = groups(group_by_tags=["pool"], tags={"owner": "me"})
        assert [g[0] for g in found] == [{"pool": "a"}, {"pool": "b"}]
        assert [float(g[1]) for g in found] == pytest.approx([2 * one, one], rel=0.05)
        assert [float(g[1]) for g in found] == pytest.approx([g[2] for g in found], rel=0.01)
        assert set(found[0][3]) == {"cpu", "memory"}
    sim.config(list_page=20)
    assert [g[0] for g in groups()] == [{}]
    assert [g[0] for g in groups(group_by_tags=["colour"])] == [{"colour": None}]
    assert groups(tags={"owner": "nobody"}) == []
