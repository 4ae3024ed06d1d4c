#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
frameworks.py --directory DIR [--junit DIR] [NAME…] [-- PYTEST OPTION…]: run the tests of the adapters.

Each framework gets a virtual environment of its own below DIR, with the framework from PyPI at the version that is
pinned here, and with the package modalpool from this tree. An environment is made once, until a pin changes.
Without a Python that is new enough, or without a network, the tests of a framework are skipped, with a line that says so.
"""

import argparse
import glob
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "scripts/adapters"
PYTEST = "pytest==9.2.0"
# The oldest Python, what is installed, and over what the mounts are.
FRAMEWORKS = {
    "package": ((3, 10), ["mypy==2.4.1"], ["local", "modal"]),
    "deep-agents": ((3, 11), ["deepagents==0.7.32"], ["local"]),
    "harbor": ((3, 12), ["harbor==0.26.0"], ["local"]),
    "hermes-agent": ((3, 11), ["hermes-agent==0.19.0"], ["local", "modal"]),
    "inspect-ai": ((3, 11), ["inspect-ai==0.3.285", "trio==0.35.0"], ["local", "modal"]),
    "node": ((3, 10), [], ["local"]),
    "seed": ((3, 10), [], ["local"]),
    "mini-swe-agent": ((3, 10), ["mini-swe-agent==2.4.6"], ["local", "modal"]),
}
NO_NETWORK = ("Failed to establish a new connection", "NewConnectionError", "NameResolutionError", "Network is unreachable",
              "ProxyError", "ConnectTimeoutError")


def find_python(oldest):
    """A Python of at least this version that can make virtual environments, or None."""
    names = ["python3", *(f"python3.{minor}" for minor in range(oldest[1], 20))]
    installed = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")))
    for program in [sys.executable, "/usr/bin/python3", *filter(None, map(shutil.which, names)), *installed]:
        check = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] < {oldest})"
        if subprocess.run([program, "-c", check], capture_output=True, check=False).returncode == 0:
            return program
    return None


def stamp(pins, package):
    """What the virtual environment has to be made of: the pins, and the text of the package."""
    digest = hashlib.sha256(" ".join(pins).encode())
    for path in sorted(package.rglob("*")) if package else ():
        if path.is_file() and "__pycache__" not in path.parts and "node" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def make(directory, oldest, pins, package=None):
    """The virtual environment, with a package of this tree: its Python, or None and the reason why the tests are skipped."""
    mark, wanted, python = directory / "stamp", stamp(pins, package), directory / "bin/python"
    if mark.exists() and mark.read_text() == wanted:
        return python, None
    base = find_python(oldest)
    if not base:
        return None, f"needs Python {oldest[0]}.{oldest[1]} or newer"
    if not python.exists():
        subprocess.run([base, "-m", "venv", directory], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for words in (pins, *([["--no-deps", "--force-reinstall", package]] if package else [])):
        done = subprocess.run([*pip, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            if any(words in done.stdout for words in NO_NETWORK):
                return None, "PyPI cannot be reached"
            raise RuntimeError(f"pip install {' '.join(map(str, words))} failed:\n{done.stdout}")
    mark.write_text(wanted)
    return python, None


def test(name, directory, junit, options):
    """Run the tests of one framework: whether none failed."""
    oldest, pins, backends = FRAMEWORKS[name]
    python, skipped = make(directory / name, oldest, [PYTEST, *pins], PACKAGE)
    if skipped:
        print(f"adapters: {name} is skipped: {skipped}", flush=True)
        if junit:
            xml = f'<testsuite name="{name}" tests="1" failures="0" errors="0" skipped="1"/>'
            (junit / f"adapters-{name}.xml").write_text(xml)
        return True
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    passed = True
    for backend in backends:
        print(f"adapters: {name}, {backend}", flush=True)
        command = [python, "-m", "pytest", "-q", "-rs", "-s", "-p", "no:cacheprovider", "--rootdir", HERE, "--backend", backend,
                   HERE / f"test_{name.replace('-', '_')}.py", *options]
        if junit:
            command += ["--junitxml", junit / f"adapters-{name}-{backend}.xml"]
        passed &= subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode == 0
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=pathlib.Path, required=True, help="where the virtual environments are")
    parser.add_argument("--junit", type=pathlib.Path, help="where the results go as XML")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FRAMEWORKS))
    words = sys.argv[1:]
    own = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:own])
    unknown = set(given.names) - set(FRAMEWORKS)
    if unknown:
        parser.error(f"no such framework: {', '.join(unknown)}")
    directory = given.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    passed = [test(name, directory, given.junit and given.junit.resolve(), words[own + 1:]) for name in given.names or FRAMEWORKS]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
