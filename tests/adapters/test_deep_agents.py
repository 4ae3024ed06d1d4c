# SPDX-License-Identifier: MIT
"""Deep Agents: an agent that uses its tools, and its file tools beside its own local shell."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ends, leases, ratio
from deepagents import create_deep_agent
from deepagents.backends.local_shell import LocalShellBackend
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, ToolMessage

import modalpool
from modalpool.deep_agents import PoolSandbox


@pytest.fixture
def backend(mount):
    with PoolSandbox() as made:
        yield made
    assert leases(mount) == []


def test_execute(backend, mount, image):
    r = backend.execute("echo hi; echo oh >&2; exit 3")
    assert (r.output, r.exit_code, r.truncated) == ("hi\noh\n", 3, False)
    r = backend.execute("echo begun; sleep 1000", timeout=1)
    assert (r.output, r.exit_code) == ("begun\n\ntimed out after 1 s", 124)
    assert backend.execute("exit 124").output == ""
    backend.output_limit = 10
    r = backend.execute("seq 1000")
    assert (r.output, r.truncated) == ("1\n2\n3\n4\n5\n", True)
    assert backend.id in leases(mount)
    image(lambda name: PoolSandbox(image=name))


def test_a_lost_sandbox(backend, mount):
    def murder():
        mount.until(lambda: mount.stats()["jobs"]["running"] == 1)
        (output,) = mount.path.glob("*/jobs/job-*/output")
        with open(output, "rb", buffering=0) as file:
            assert file.read(6) == b"begun\n"  # it is here
            mount.murder(mount.sandboxes())

    threading.Thread(target=murder).start()
    r = backend.execute("echo begun; sleep 1000")
    assert r.exit_code is None and r.output.startswith("begun\n\n") and "gone" in r.output
    with pytest.raises(modalpool.Error, match="gone"):
        backend.execute("true")
    assert "gone" in backend.upload_files([("x", b"")])[0].error


def test_side_by_side(backend):
    async def main():
        script = "touch here{0}; until [ $(ls here* | wc -l) = 4 ]; do sleep 0.01; done; echo {0}"
        return await asyncio.gather(*(backend.aexecute(script.format(i)) for i in range(4)))

    assert [r.output for r in asyncio.run(main())] == [f"{i}\n" for i in range(4)]


def test_interrupt(backend):
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with pytest.raises(KeyboardInterrupt):
        backend.execute("sleep 86409")
    assert backend.execute(ends("sleep 86409")).exit_code == 0


def test_upload_and_download(backend):
    data = bytes(range(256)) * 4096
    assert [r.error for r in backend.upload_files([("/tmp/a/b c", data), ("rel", b""), ("/tmp", b"x"), ("a\0b", b"")])] == \
        [None, None, "is_directory", "invalid_path"]
    got = backend.download_files(["/tmp/a/b c", "rel", "/tmp", "none", "rel/x"])
    assert [r.content for r in got] == [data, b"", None, None, None]
    assert [r.error for r in got] == [None, None, "is_directory", "file_not_found", "invalid_path"]


def battery(backend, root):
    """Every file tool: what each answers, with the root of its files taken out."""
    text = "".join(f"line {i}\n" for i in range(3000)) + "a needle, ö\n"
    answers = [
        backend.write(f"{root}/deep/er/file.txt", text), backend.write(f"{root}/b.py", "x = 1\nx = 2\n"),
        backend.read(f"{root}/deep/er/file.txt", offset=2998, limit=5), backend.read(f"{root}/none"),
        backend.edit(f"{root}/b.py", "x = 1", "y = 1"), backend.edit(f"{root}/b.py", "nowhere", "z"),
        backend.edit(f"{root}/b.py", " = ", " == "), backend.edit(f"{root}/b.py", " = ", " == ", replace_all=True),
        backend.edit(f"{root}/deep/er/file.txt", text, text + "more\n"),
        backend.read(f"{root}/b.py"), backend.grep("needle", root), backend.grep("nothing at all", root),
        backend.glob("**/*.py", root), backend.ls(root), backend.ls(f"{root}/none"),
        backend.delete(f"{root}/b.py"), backend.read(f"{root}/b.py"), backend.ls(root),
    ]
    return [strip(answer, root) for answer in answers]


def strip(answer, root):
    """Without the words of errors, and without what their class for sandboxes leaves out: sizes, times, last newlines."""
    facts = {key: value for key, value in vars(answer).items() if value is not None}
    if "error" in facts:
        return "error"
    return re.sub(r"(, '(size|modified_at)': [^,}]*|\\n(?=')|/(?='))", "", str(facts).replace(root, "ROOT"))


def test_file_tools(backend, tmp_path):
    """As with its local backend."""
    root = backend.execute("pwd").output.strip()
    local = LocalShellBackend(root_dir=tmp_path, virtual_mode=False, inherit_env=True)
    ours = battery(backend, root)
    assert ours == battery(local, str(tmp_path))
    assert "line 2999" in ours[2] and ours[10].count("needle") == 1 and ours.count("error") == 5


class Model(FakeMessagesListChatModel):
    """Says what it is given."""

    def bind_tools(self, tools, **kwargs):
        return self


def call(i, name, **args):
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": str(i)}])


def test_an_agent(backend):
    root = backend.execute("pwd").output.strip()
    steps = [call(1, "write_file", file_path=f"{root}/a.py", content="print(6 * 8)\n"), call(2, "read_file", file_path=f"{root}/a.py"),
             call(3, "edit_file", file_path=f"{root}/a.py", old_string="8", new_string="7"),
             call(4, "execute", command=f"python3 {root}/a.py; exit 5"), call(5, "grep", pattern="print", path=root),
             call(6, "ls", path=root), AIMessage("done")]
    out = create_deep_agent(model=Model(responses=steps), backend=backend).invoke({"messages": [("user", "go")]})
    said = [message.content for message in out["messages"] if isinstance(message, ToolMessage)]
    assert "print(6 * 8)" in said[1] and "42" in said[3] and "5" in said[3] and "a.py" in said[4] and "a.py" in said[5]
    assert out["messages"][-1].content == "done"


def test_a_crash(mount):
    code = ("import os, signal\nfrom modalpool.deep_agents import PoolSandbox\nbackend = PoolSandbox()\n"
            "backend.execute('true')\nos.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    mount.until(lambda: leases(mount) == [])


def test_ratio(backend, tmp_path):
    local = LocalShellBackend(root_dir=tmp_path, inherit_env=True)
    ratio(lambda: backend.execute("true"), lambda: local.execute("true"))
