"""Modal's own Python SDK against the simulator."""

import os
import sys

import pytest

from .conftest import check_witness, kinds, witness
from .simulator import Simulator


def check_python(tls, kind):
    with Simulator(tls=tls) as sim:
        script = os.path.join(os.path.dirname(__file__), "witness.py")
        said = witness([sys.executable, script], sim, env=sim.env() | {"MODAL_SANDBOX_V2": kind})
        assert said["ended"] == 137
        # Unlike the others it asks for the size of its own terminal, and here has none.
        check_witness(said, sim.stats(), "green mint", "0 0")


def test_python_sdk():
    """The second kind of sandbox over TLS stands for all in the default run."""
    check_python(True, "1")


@pytest.mark.witness
@kinds()
def test_python_sdk_in_each_way(tls, kind):
    check_python(tls, kind)
