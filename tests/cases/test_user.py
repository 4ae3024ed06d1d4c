# SPDX-License-Identifier: MIT
"""Jobs of other users than the environment's own."""

import errno
import os

import pytest

from test_live_job_input import refused


@pytest.fixture
def users(lease, settings):
    """A lease whose environment has several users."""
    if settings.simulator and not settings.gvisor:
        pytest.skip("bubblewrap gives the simulator's sandboxes one user")
    try:
        lease.write("user", "nobody")
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        assert lease.read("error").startswith("user: refused: ")
        pytest.skip("these environments have one user")
    lease.write("user", "")
    return lease


def test_one_user(lease, settings):
    """Where there is only one, the write says so and why; a draft is refused likewise, and jobs run as ever."""
    if settings.provider == "modal" and settings.helper:
        pytest.skip("these environments are not known to have one user")
    for file in "user", "jobs/a/user":
        if file != "user":
            try:
                os.mkdir(lease / "jobs/a")
            except OSError as error:
                assert error.errno == errno.EOPNOTSUPP
                break
        with refused(errno.EOPNOTSUPP):
            lease.write(file, "nobody")
        said = "has one user: bubblewrap gives it one user of this machine" if settings.provider == "local" else "has none"
        assert said in lease.read("error") and lease.read(file) == ""
    assert lease.run("id -u") == ("0\n", 0)


def test_nobody(users):
    """Who runs it, whose its files and its workdir are, and what its variables say, as after a login."""
    lease = users
    lease.write("user", "nobody\n")
    assert lease.read("user") == "nobody\n"
    out, code = lease.run("id -un; id -gn; id -Gn; echo $HOME $USER $LOGNAME; touch f; stat -c %U f .; exit 3")
    assert code == 3 and out.splitlines() == ["nobody", "nogroup", "nogroup", "/nonexistent nobody nobody", "nobody", "nobody"]
    lease.write("env", "HOME=/tmp\nUSER=me\n")
    assert lease.run("echo $HOME $USER $LOGNAME")[0] == "/tmp me nobody\n"
    lease.write("user", "")
    assert lease.read("user") == "" and lease.run("id -u") == ("0\n", 0)


def test_by_number(users):
    lease = users
    lease.write("user", "1")
    assert lease.run("id -un; echo $HOME $USER")[0].split() == ["daemon", "/usr/sbin", "daemon"]
    lease.write("user", "4242")
    assert lease.run("id -u; id -g; id -G; echo $HOME $USER")[0].split() == ["4242", "0", "0", "/", "4242"]


def test_groups(users):
    """The groups that /etc/group gives."""
    lease = users
    lease.run("cp /etc/group /tmp/group; echo 'extra:x:7777:sys,games' >> /tmp/group; cat /tmp/group > /etc/group")
    if "extra" not in lease.run("cat /etc/group")[0]:
        pytest.skip("/etc/group cannot be changed there")
    lease.write("user", "games")
    assert lease.run("id -G")[0].split()[-1] == "7777"


def test_no_such_user(users):
    """126, and a sentence."""
    lease = users
    lease.write("user", "who")
    assert lease.run("echo ran") == ("", 126)
    assert lease.read("error") == "user: there is no user who\n"
    lease.write("user", "")
    assert lease.run("echo ran") == ("ran\n", 0)


def test_refusals(users):
    lease = users
    for name in "a b", "-x", "a:b", "a/b", "ü", "x" * 256, "a\nb":
        with refused(errno.EINVAL):
            lease.write("user", name)
    assert lease.read("user") == "" and lease.run("id -u") == ("0\n", 0)


def test_each_its_own(users):
    """A draft takes the lease's, and has its own."""
    lease = users
    lease.write("user", "nobody")
    for name, user in ("a", None), ("b", "daemon"), ("c", ""):
        os.mkdir(lease / f"jobs/{name}")
        if user is not None:
            lease.write(f"jobs/{name}/user", user)
    lease.write("user", "4242")
    for name in "abc":
        lease.write(f"jobs/{name}/cmd", "id -u")
    assert [lease.read(f"jobs/{name}/output") for name in "abc"] == ["65534\n", "1\n", "0\n"]
    assert lease.read("jobs/a/user") == "nobody\n"
    with refused(errno.EBUSY):
        lease.write("jobs/a/user", "daemon")
    os.mkdir(lease / "jobs/t")
    lease.write("jobs/t/terminal", "24 80")
    lease.write("jobs/t/cmd", "id -u; echo x > /dev/tty")
    assert (lease / "jobs/t/output").read_bytes() == b"4242\r\nx\r\n"


def test_a_restart(mount, settings):
    if not settings.helper or not settings.gvisor:
        pytest.skip("these environments have one user")
    mp = mount(max=1)
    lease = mp.lease()
    lease.write("user", "nobody")
    os.mkdir(lease / "jobs/a")
    mp.crash()
    mp.lines.clear()
    mp.start()
    assert lease.read("user") == lease.read("jobs/a/user") == "nobody\n"
    assert lease.run("id -un") == ("nobody\n", 0)
    lease.write("jobs/a/cmd", "id -un")
    assert lease.read("jobs/a/output") == "nobody\n"
