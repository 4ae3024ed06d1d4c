# SPDX-License-Identifier: MIT
"""
Test suites of others, in the files of a lease. scripts/setup --suites builds them, and prints the directory that is
MODALPOOL_SUITES here. What is not there is skipped.
"""

import os
import pathlib
import re
import subprocess

import pytest

from test_root import files  # noqa: F401

pytestmark = pytest.mark.suites
SUITES = pathlib.Path(os.environ.get("MODALPOOL_SUITES", "/nonexistent"))


def suite(pattern):
    """The suite's program or directory."""
    found = sorted(SUITES.glob(pattern))
    if not found:
        pytest.skip(f"{pattern} was not built: scripts/setup --suites")
    return found[-1]


PJDFSTEST = """
[features]
posix_fallocate = {}
[settings]
naptime = 0.05
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""

# Tests that fail, by the end of their names, and why.
EXPECTED = {
    r"::(block|char)": "mknod(2) of a device is EPERM",
    r"::enametoolong_path": "a path has to be shorter than 4000 bytes from the root of the sandbox on, and PATH_MAX is more",
}
# The sandboxes of this machine, and so those of the simulated Modal, have no ids but root's: chown(2) to others is EINVAL.
OTHER_IDS = {
    "chmod::clear_isgid_bit", "ftruncate::affected_create_flags_only", "link::share_metadata::fifo", "link::share_metadata::regular",
    "link::share_metadata::socket", "mkdir::uid_gid_eq_euid_egid", "mkfifo::uid_gid_eq_euid_egid", "mknod::uid_gid_eq_euid_egid",
    "open::uid_gid_eq_euid_egid", "posix_fallocate::affected_only_create_flags",
}


@pytest.mark.root
@pytest.mark.limit(900)
def test_pjdfstest(mount, tmp_path):
    """As root, which becomes other users: they get in by a bind mount, past the lease's own mode of 0700."""
    program = suite("bin/pjdfstest-*")
    mp = mount(max=1, allow_other=True, timeout=0)
    if not mp.settings.helper:
        pytest.skip("without a helper")
    lease = mp.lease()
    assert lease.run("chmod 755 .")[1] == 0
    (tmp_path / "pjd.toml").write_text(PJDFSTEST)
    done = subprocess.run(["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /mnt && exec "$2" -c "$3" -p /mnt', "sh",
                           os.path.realpath(lease / "files"), program, tmp_path / "pjd.toml"],
                          env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    failed = set(re.findall(r"^(\S+)\s+FAILED", done.stdout, re.MULTILINE))
    summary = re.search(r"Summary: (\d+) failed, (\d+) skipped, (\d+) passed", done.stdout)
    assert summary and int(summary[1]) == len(failed) and sum(map(int, summary.groups())) == 398
    for pattern in EXPECTED:
        explained = {name for name in failed if re.search(pattern + "$", name)}
        assert explained, f"{pattern}: all pass, so it is no longer to be expected"
        failed -= explained
    assert failed == OTHER_IDS


@pytest.mark.limit(300)
@pytest.mark.parametrize("seed", range(1, 11))
def test_fsx(files, seed):  # noqa: F811
    """Reads, writes, maps and truncates one file, and compares each byte."""
    program = suite("bin/fsx-*")
    files.mount.sh([str(program), "-N", "5000", "-S", str(seed), str(files.files / "fsx")])


@pytest.mark.limit(600)
@pytest.mark.parametrize("name", ["t0001-init", "t3600-rm", "t7001-mv"])
def test_git(files, name):  # noqa: F811
    source = suite("git-*")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(["bash", f"./{name}.sh", f"--root={os.path.realpath(files.files)}", "-i"], cwd=source / "t",
                          env={**environment, "TEST_OUTPUT_DIRECTORY": str(files.mount.directory), "GIT_CEILING_DIRECTORIES": "/"},
                          capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^# passed all (remaining )?[1-9]\d* ", done.stdout, re.MULTILINE), done.stdout[-3000:]
