# SPDX-License-Identifier: MIT
"""
Tests of the helper: the program itself in a sandbox by bubblewrap, driven over `attach`.

HELPER is the path of the program. What is in a sandbox is seen from this machine's /proc, and users are real ones, so
the tests want root.
"""

import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import box as box_module
import daemon as daemon_module

PROGRAM = os.environ["HELPER"]


def pytest_collection_modifyitems(items):
    missing = [name for name in ("bwrap", "busybox") if not shutil.which(name)]
    why = f"there is no {missing[0]}" if missing else "not root" if os.getuid() else None
    for item in items if why else []:
        item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
def make_box(tmp_path):
    boxes = []

    def make(kind="debian", **more):
        made = box_module.Box(PROGRAM, tmp_path / str(len(boxes)), kind, sanitized=os.environ.get("HELPER_STATIC") == "0",
                              **more)
        boxes.append(made)
        return made

    yield make
    for made in boxes:
        made.end()


@pytest.fixture
def box(make_box):
    return make_box()


@pytest.fixture
def make_daemon():
    daemons = []

    def make(box, attach=True, **more):
        made = daemon_module.Daemon(box, **more)
        daemons.append(made)
        if attach:
            made.attach()
        return made

    yield make
    for made in daemons:
        made.close()


@pytest.fixture
def daemon(box, make_daemon):
    return make_daemon(box)


@pytest.fixture(params=box_module.KINDS)
def anywhere(request, make_box, make_daemon):
    """A daemon, with its helper in each kind of root."""
    return make_daemon(make_box(request.param))
