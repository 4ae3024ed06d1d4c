# SPDX-License-Identifier: MIT
"""The module for Node."""

import re
import shutil
import subprocess

import pytest
from conftest import HERE


def test_node(mount):
    node = shutil.which("node")
    version = node and int(re.match(r"v(\d+)", subprocess.run([node, "-v"], capture_output=True, text=True, check=True).stdout)[1])
    if not node or version < 18:
        pytest.skip("needs Node 18 or newer")
    done = subprocess.run([node, "--test", HERE / "node.test.mjs"], capture_output=True, text=True, check=False)
    print(re.sub(r"\n\s*(duration_ms|\.\.\.|---|type:).*", "", done.stdout))
    assert done.returncode == 0, done.stderr
