"""Modal's own JavaScript SDK against the simulator."""

import os
import shutil
import subprocess

import pytest

from .conftest import check_witness, kinds, witness
from .simulator import HERE, ROOT, Simulator

# Exactly this one: npm's newest `modal` by number, 1.2.0, is somebody else's
# old package.
SDK = "modal@0.11.1"


@pytest.fixture(scope="module")
def workshop():
    """A directory under build/ with the SDK installed and the witness beside it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed, so the JavaScript SDK cannot be a witness")
    directory = os.path.join(ROOT, os.environ.get("MODALPOOL_NODE", "build/witness-js"))
    stamp = os.path.join(directory, SDK)
    if not os.path.exists(stamp):
        os.makedirs(directory, exist_ok=True)
        # --ignore-scripts: nothing of what its dependencies would compile is needed.
        subprocess.run(["npm", "install", "--silent", "--no-save", "--no-package-lock", "--ignore-scripts",
                        "--prefix", directory, SDK], check=True, timeout=100)
        open(stamp, "w").close()
    shutil.copy(os.path.join(HERE, "witness.mjs"), directory)
    return directory


@pytest.mark.witness
@kinds()
def test_javascript_sdk(workshop, tls, kind):
    with Simulator(tls=tls) as sim:
        said = witness(["node", "witness.mjs"], sim, cwd=workshop, env=sim.env() | {"MODAL_SANDBOX_V2": kind})
        check_witness(said, sim.stats(), "mint")
