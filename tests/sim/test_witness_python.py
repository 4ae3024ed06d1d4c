"""Modal's own Python SDK against the simulator."""

import os
import sys

import pytest

from .conftest import check_witness, witness
from .simulator import Simulator


# The SDK has two kinds of sandboxes, with calls of their own; both must work.
@pytest.mark.parametrize("kind", ["1", "0"], ids=["v2", "v1"])
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_python_sdk(tls, kind):
    with Simulator(tls=tls) as sim:
        script = os.path.join(os.path.dirname(__file__), "witness.py")
        said = witness([sys.executable, script], sim, env=sim.env() | {"MODAL_SANDBOX_V2": kind})
        assert said["ended"] == 137
        check_witness(said, sim.stats(), "green mint")
