# SPDX-License-Identifier: MIT
"""
A language server in a sandbox: pylsp, a job with live input, driven over `modalpool run` by its authors' JSON-RPC library.

Both are from PyPI, in a virtual environment of their own, whose packages are sent into the sandbox.
"""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/adapters"))
import frameworks  # noqa: E402

pytestmark = pytest.mark.languages

VENV = ROOT / "build/language-server"
PINS = ["python-lsp-server==1.15.0", "python-lsp-jsonrpc==1.1.2", "pyflakes==3.4.0"]

CLIENT = r"""
import queue, subprocess, sys, threading
from pylsp_jsonrpc.endpoint import Endpoint
from pylsp_jsonrpc.streams import JsonRpcStreamReader, JsonRpcStreamWriter

SOURCE = "import os\nimport json\nos.path.jo\n\ndef double(number):\n    'Twice the number.'\n    return 2 * number\n\ndouble(21)\n" \
         + "".join(f"value_{i} = {i}\n" for i in range(2000)) + "print(undefined_name)\n"
URI = "file:///tmp/example.py"

server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
told = queue.Queue()
client = Endpoint({"textDocument/publishDiagnostics": told.put}, JsonRpcStreamWriter(server.stdin).write)
threading.Thread(target=JsonRpcStreamReader(server.stdout).listen, args=(client.consume,), daemon=True).start()


def ask(method, **params):
    return client.request(method, params or None).result(100)


def at(line, character):
    return {"textDocument": {"uri": URI}, "position": {"line": line, "character": character}}


done = ask("initialize", processId=None, rootUri="file:///tmp", capabilities={})
assert done["serverInfo"]["name"] == "pylsp", done
client.notify("initialized", {})
client.notify("textDocument/didOpen", {"textDocument": {"uri": URI, "languageId": "python", "version": 1, "text": SOURCE}})
items = ask("textDocument/completion", **at(2, 10))["items"]
assert any(item["label"].startswith("join") for item in items), items
assert "Twice the number." in str(ask("textDocument/hover", **at(8, 2)))
(found,) = ask("textDocument/definition", **at(8, 2))
assert found["range"]["start"]["line"] == 4, found
texts = []
while not any("undefined_name" in text for text in texts):
    texts = [one["message"] for one in told.get(timeout=100)["diagnostics"]]
assert any("json" in text for text in texts), texts
ask("shutdown")
client.notify("exit")
assert server.wait(100) == 0, server.returncode
print("done")
"""


@pytest.fixture
def python():
    made, why_not = frameworks.make(VENV, (3, 9), PINS)
    if why_not:
        pytest.skip(why_not)
    return made


@pytest.mark.limit(300)
def test_pylsp(python, together):
    run = [together.mount.settings.program, "run"]
    (packages,) = VENV.glob("lib/python3*/site-packages")
    with subprocess.Popen(["tar", "-C", packages, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run([*run, together.path, "--", "sh", "-c", "mkdir packages && tar -C packages -x"], stdin=tar.stdout, check=True)
    done = subprocess.run([python, "-c", CLIENT, *run, "-e", "PYTHONPATH=packages", together.path, "--", "python3", "-m", "pylsp"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
