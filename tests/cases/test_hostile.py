# SPDX-License-Identifier: MIT
"""What a server says may be anything, and as much as it likes: it forges no line, no key and no figure, and stops nobody."""

import json
import os
import re
import threading

import pytest

from test_daemon import modalpool, one_line  # noqa: F401
from test_modal import plain_environment  # noqa: F401

pytestmark = pytest.mark.modal

EVIL = "evil\nstate leased\r\x1b[2J\x7f\u0085x\u009b1m\u200e\u202etxt\u2066\u2028\ufeff\u061c"
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
KEYS = {"state", "environment", "owner", "created", "queued", "running", "newest", "error"}


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def events(mp):
    """All that are there now."""
    fd = os.open(mp / ".pool/events", os.O_RDONLY | os.O_NONBLOCK)
    said = b""
    try:
        while piece := os.read(fd, 1 << 17):
            said += piece
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
    return [json.loads(line) for line in said.split(b"\n")[:-1]]


def check_everything(mp, *leases):
    """Of files and log: each line is one line, and shows what is in it."""
    texts = [*mp.lines, *(mp / ".pool/status").read_text().split("\n"), *(mp / ".pool/metrics").read_text().split("\n")]
    texts += [text for value in [mp.stats(), events(mp)] for text in strings(value)]
    for lease in leases:
        assert set(lease.status()) == KEYS
        texts += [line for name in ("status", "error") for line in lease.read(name).split("\n")]
    assert [text for text in texts if HIDDEN.search(text)] == []
    return texts


@pytest.mark.parametrize("method, field", [("SandboxCreate", "sandbox_id"), ("SandboxGetTaskId", "task_id"),
                                           ("SandboxCreateV2", "sandbox_id"), ("SandboxCreateV2", "task_id")])
@pytest.mark.parametrize("word", [EVIL, "sb-1\nerror forged", "sb-\u202e1", "sb/../1", "sb 1", "s" * 80],
                         ids=["evil", "newline", "bidi", "path", "space", "long"])
def test_ids(mount, calm, method, field, word):  # noqa: F811
    """What is no id is a refused answer. The sandbox that the server made is found and ended all the same."""
    mp = mount(max=1, sandbox="v2" if method.endswith("V2") else "v1")
    calm.faults({"kind": "answer", "method": method, "fields": {field: word}})
    lease = mp.lease()
    mp.until(lambda: mp.stats()["trouble"] or mp.environments()["leased"])
    assert f"an answer to {method} that cannot be taken" in mp.stats()["trouble"]
    check_everything(mp, lease)
    calm.faults()
    assert lease.run("echo on") == ("on\n", 0)
    mp.stop()
    assert calm.stats()["sandboxes"]["live"] == {}
    assert [line for line in mp.lines if HIDDEN.search(line)] == []


@pytest.mark.parametrize("method, field", [("AppGetOrCreate", "app_id"), ("ImageGetOrCreate", "image_id")])
def test_ids_at_the_start(modalpool, settings, calm, tmp_path, method, field):  # noqa: F811
    (tmp_path / "mnt").mkdir()
    calm.faults({"kind": "answer", "method": method, "fields": {field: EVIL}})
    done = modalpool("-o", f"state={tmp_path}/state", "modal", tmp_path / "mnt",
                     env=plain_environment(settings, tmp_path, **settings.environment))
    one_line(done, f"an answer to {method} that cannot be taken")


def test_ids_in_a_list(mount, calm):  # noqa: F811
    mp = mount(start=False)
    calm.faults({"kind": "answer", "method": "SandboxListV2", "fields": {"sandboxes": [{"id": EVIL, "created_at": 1e9}]}})
    mp.start()
    assert mp.hears("listing environments that are not in the journal: ")
    assert "an answer to SandboxListV2 that cannot be taken" in mp.log()
    check_everything(mp)


def test_a_long_list_of_strangers(mount, calm):  # noqa: F811
    """Each of thousands of sandboxes that are not ours is no line of the log."""
    mp = mount(start=False)
    strangers = [{"id": f"sb-{i}", "created_at": 1e9, "tags": [{"tag_name": "modalpool-create", "tag_value": "by hand"}]}
                 for i in range(3000)]
    calm.faults({"kind": "answer", "method": "SandboxListV2", "fields": {"sandboxes": strangers}, "count": 1})
    mp.start()
    calm.until(lambda stats: stats["statuses"].get("SandboxListV2", {}).get("OK", 0) >= 2)
    assert mp.lease().run("echo on") == ("on\n", 0)
    mp.stop()
    said = [line for line in mp.lines if "left alone" in line]
    assert len(said) == 11 and "2990 more" in said[-1], said[:20]


def test_words(mount, calm):  # noqa: F811
    """Why a call failed, in the words of the server."""
    mp = mount(max=2)
    lease = mp.lease()
    lease.read("environment")
    calm.faults(*({"kind": "status", "code": "INVALID_ARGUMENT", "message": EVIL, "method": method}
                  for method in ("TaskExecStart", "SandboxCreate*")))
    lease.submit("true")
    with pytest.raises(OSError):
        lease.read("exit_code")
    other = mp.lease("other")
    mp.until(lambda: mp.stats()["trouble"])
    texts = check_everything(mp, lease, other)
    assert any("evil state leased" in text for text in texts)
    texts = lease.read("jobs/1/error").split("\n") + lease.read("jobs/1/status").split("\n")
    assert "Modal says: evil state leased" in texts[0] and [text for text in texts if HIDDEN.search(text)] == []
    calm.faults()


def test_why_a_sandbox_died(mount, calm):  # noqa: F811
    mp = mount(max=1, sandbox="v1")
    calm.faults({"kind": "task_result", "method": "SandboxGetTaskId", "message": EVIL, "count": 1})
    lease = mp.lease()
    assert lease.read("environment")
    assert mp.hears("ended before it was up")
    assert any("evil state leased" in text for text in check_everything(mp, lease))


def test_build_log(mount, calm, tmp_path):  # noqa: F811
    """Its newlines end a line, nothing else does."""
    (tmp_path / "dockerfile").write_text("ENV hostile=1\n")
    mp = mount(start=False, image="hostile", dockerfile=tmp_path / "dockerfile")
    calm.faults({"kind": "answer", "method": "ImageJoinStreaming", "fields": {"task_logs": [{"data": EVIL + "\n"}]}})
    mp.start()
    texts = check_everything(mp)
    assert "evil" in texts and any(text.startswith("state leased") for text in texts)


def test_a_flood_of_messages(mount, calm, settings):  # noqa: F811
    """Millions that say nothing, before the output: others are answered in between, and nothing of it is lost."""
    mp = mount(max=1, log="info")
    lease = mp.lease()
    if settings.helper:
        lease.read("environment")
    else:
        lease.run("true")
    calm.faults({"kind": "flood", "method": "TaskExecStdioRead", "messages": 4_000_000, "count": 2})
    lease.submit("seq 100000; seq 100000 >&2; exit 3")
    over = threading.Event()

    def listen():
        with open(lease / "output", "rb", buffering=0) as output:
            output.read(1)
            over.set()
    listener = threading.Thread(target=listen)
    listener.start()
    # All of it is on its way. Of the stream to a helper, one half says nothing.
    calm.until(lambda stats: stats["wire"].get("floods") == (1 if settings.helper else 2))
    answered = 0
    while not over.is_set():
        mp.ctl("min 0")
        answered += 1
    listener.join()
    print(answered, "answers meanwhile;", [line for line in (mp / ".pool/status").read_text().splitlines() if "loop" in line])
    wanted = "".join(f"{i}\n" for i in range(1, 100001))
    assert lease.read("exit_code") == "3\n" and lease.read("error") == "ok\n"
    assert (lease.read("stdout"), lease.read("stderr")) == (wanted, wanted)
    assert answered > 200
