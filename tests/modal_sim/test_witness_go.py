"""Modal's own Go SDK against the simulator."""

import os
import shutil
import subprocess

import pytest

from .conftest import check_witness, kinds, witness
from .simulator import HERE, ROOT, Simulator

BUILD_SECS = 900  # the first time, on a machine that has much to do


@pytest.fixture(scope="module")
def program():
    """The witness, built. The versions are those of its go.sum."""
    if not shutil.which("go"):
        pytest.skip("go is not installed, so the Go SDK cannot be a witness")
    path = os.path.join(ROOT, "build", "witness-go")
    done = subprocess.run(["go", "build", "-o", path, "."], cwd=os.path.join(HERE, "witness-go"), text=True, timeout=BUILD_SECS,
                          stderr=subprocess.PIPE, env=dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly"))
    if "requires go >=" in done.stderr:
        pytest.skip(f"this Go is too old for the SDK: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.witness
@kinds()
def test_go_sdk(program, tls, kind):
    with Simulator(tls=tls) as sim:
        said = witness([program], sim, env=sim.env() | {"MODAL_SANDBOX_V2": kind})
        check_witness(said, sim.stats(), "mint")
