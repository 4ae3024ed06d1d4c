"""The file helper of sandboxes: what it answers and how it fails."""

import json

import pytest

from .client import STDERR
from .conftest import eventually

TOOL = "/__modal/.bin/modal-sandbox-fs-tools"


def tool(box, verb, path, data=None, **fields):
    """(what it wrote, or the kind of its error)"""
    exec_id = box.start(TOOL, json.dumps({verb: {"path": path, **fields}}))
    if data is not None:
        box.write(exec_id, 0, data, eof=True)
    code = box.wait(exec_id)
    if code == 0:
        return box.read(exec_id)
    return json.loads(box.read(exec_id, fd=STDERR))["error_kind"]


def test_read_and_write(box):
    data = bytes(range(256)) * 9999
    assert tool(box, "WriteFile", "/root/a/b/file", data) == b""
    assert tool(box, "ReadFile", "/root/a/b/file") == data
    assert tool(box, "WriteFile", "/root/a/b/file", b"") == b""
    assert tool(box, "ReadFile", "/root/a/b/file") == b""
    assert tool(box, "ReadFile", "/root/none") == "NotFound"
    assert tool(box, "ReadFile", "/root/a") == tool(box, "WriteFile", "/root/a", b"") == "IsDirectory"
    assert tool(box, "WriteFile", "/root/a/b/file/x", b"") in ("NotDirectory", "AlreadyExists")
    assert tool(box, "WriteFile", "/usr/x", b"") == "PermissionDenied"


def test_replacing_keeps_mode_and_link(box):
    box.run("sh", "-c", "cd /root; echo old > script; chmod 755 script; ln -s script link")
    tool(box, "WriteFile", "/root/link", b"new\n")
    assert box.run("sh", "-c", "cd /root; cat script; stat -c %a script; readlink link; ls")[1] == b"new\n755\nscript\nlink\nscript\n"


def test_list_and_stat(box):
    box.run("sh", "-c", "mkdir -p /root/d/sub; cd /root/d; printf abc > f; chmod 640 f; ln -s f l")
    entries = json.loads(tool(box, "ListFiles", "/root/d"))
    assert [(e["name"], e["type"], e["symlink_target"]) for e in entries] == [
        ("f", "file", None), ("l", "symlink", "f"), ("sub", "directory", None)]
    f = json.loads(tool(box, "Stat", "/root/d/f"))
    assert f == entries[0]
    assert (f["size"], f["mode"], f["permissions"], f["owner"], f["path"]) == (3, 0o640, "-rw-r-----", "root", "/root/d/f")
    assert tool(box, "ListFiles", "/root/d/f") == "IsFile"
    assert tool(box, "ListFiles", "/none") == tool(box, "Stat", "/none") == "NotFound"
    assert tool(box, "Stat", "/root/d/f/x") == "NotDirectory"


def test_directories_and_removal(box):
    assert tool(box, "MakeDirectory", "/root/x/y", parents=False) == "NotFound"
    for _ in range(2):
        assert tool(box, "MakeDirectory", "/root/x/y", parents=True) == b""
    assert tool(box, "MakeDirectory", "/root/x/y", parents=False) == "PathAlreadyExists"
    tool(box, "WriteFile", "/root/x/y/f", b"")
    assert tool(box, "MakeDirectory", "/root/x/y/f", parents=True) == "PathAlreadyExists"
    assert tool(box, "Remove", "/root/x", recursive=False) == "DirectoryNotEmpty"
    assert tool(box, "Remove", "/root/x/y/f", recursive=False) == b""
    assert tool(box, "Remove", "/root/x", recursive=True) == b""
    assert tool(box, "Remove", "/root/x", recursive=True) == "NotFound"


def test_watch(box):
    exec_id = box.start(TOOL, json.dumps({"Watch": {"path": "/root", "recursive": True, "filter": None, "timeout_secs": None}}))

    def seen():
        return [json.loads(line) for line in read_now(box, exec_id).splitlines()]
    # The first mark that is seen says that it watches.
    eventually(lambda: (box.run("touch", "/root/mark"), seen())[1])
    box.run("sh", "-c", "cd /root; mkdir d; until echo x > d/f; do :; done; mv d/f d/g; rm d/g")
    eventually(lambda: {"event_type": "Remove", "paths": ["/root/d/g"]} in seen())
    assert {"event_type": "Create", "paths": ["/root/d"]} in seen()
    assert {"event_type": "Rename", "paths": ["/root/d/f", "/root/d/g"]} in seen()
    box.write(exec_id, 0, b"", eof=True)
    assert box.wait(exec_id) == 0
    assert tool(box, "Watch", "/root", recursive=False, filter=["Create"], timeout_secs=0) == b""
    assert tool(box, "Watch", "/none", recursive=False) == "NotFound"


def read_now(box, exec_id):
    """What there is of an output that has not ended."""
    stream = box.call("TaskExecStdioRead", exec_id=exec_id, timeout=0.5)
    data = b""
    try:
        for part in stream:
            data += part.data
    except Exception:  # its time is over
        pass
    return data


@pytest.mark.parametrize("argument", ["", "{}", '{"Fly":{"path":"/"}}', '{"Stat":{"path":"x"}}', '{"Stat":{}}', "[]"])
def test_bad_arguments(box, argument):
    code, out, err = box.run(TOOL, argument)
    assert (code, out) == (1, b"") and json.loads(err)["message"]


def test_a_sandbox_without_it(client, sim):
    sim.config(fs_tools=False)
    with client.create() as box:
        assert box.run(TOOL, '{"Stat":{"path":"/"}}')[0] == 127
    sim.config(fs_tools=True)
