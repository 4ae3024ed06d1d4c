# SPDX-License-Identifier: MIT
"""What a lease leaves in its sandbox, and what the next one finds."""

import pytest

pytestmark = pytest.mark.exact
FILL = "head -c 64M /dev/zero > {0} 2>/dev/null; test -s {0}"
WRITE = "head -c 100000 /dev/zero > file && head -c 100000 /dev/zero > /tmp/file && echo written"


@pytest.fixture
def small(mount, settings):
    """A mount of one sandbox whose disk has 16 MiB."""
    if settings.simulator:
        before = settings.simulator.ask("/config")["disk_bytes"]
        settings.simulator.config(disk_bytes=16 << 20)
        yield mount(max=1)
        settings.simulator.config(disk_bytes=before)
    else:
        yield mount(max=1, size="16M")


def leave(mp, script):
    """A lease that runs this and is released; its environment."""
    lease = mp.lease()
    environment = lease.read("environment")
    assert lease.run(script) == ("", 0), lease.read("error")
    lease.release()
    mp.until_settled()
    return environment


@pytest.mark.small
@pytest.mark.parametrize("where", ["/tmp/fill", "fill"])
def test_what_filled_the_disk_is_gone(small, where):
    """The sandbox is lent again and can be written to."""
    first = leave(small, FILL.format(where))
    lease = small.lease()
    assert lease.run(WRITE) == ("written\n", 0), lease.read("stderr")
    assert lease.read("environment") == first


def test_a_full_disk_is_not_lent_again(small):
    """The clean-up does not remove what fills the disk. The sandbox ends, and the next lease gets another."""
    first = leave(small, FILL.format("/var/fill"))
    assert small.hears("clean-up failed, destroying it") and "No space left on device" in small.log()
    lease = small.lease()
    assert lease.run(WRITE) == ("written\n", 0), lease.read("stderr")
    assert lease.read("environment") != first
    assert small.stats()["environments_clean_failures_total"] == 1


@pytest.mark.small
def test_tmp_is_emptied(mount):
    """With any names and modes, and any number of files."""
    mp = mount(max=1)
    first = leave(mp, "cd /tmp && mkdir -p a/.b ..c .d/e && touch a/f .g ..h ...i 'j k' -- -l '*' \"$(printf 'm\\nn')\" && ln -s / o"
                      " && for i in $(seq 300); do : > many$i; done && chmod 0 a && chmod 0700 /tmp && mkfifo p")
    lease = mp.lease()
    assert lease.run("ls -A /tmp; test -d /usr/bin && test -w /tmp && echo there") == ("there\n", 0)
    assert lease.read("environment") == first


def test_tmp_that_is_something_else(mount):
    """If a job replaces /tmp by a link, no other directory is emptied, and the next lease finds nothing of it."""
    mp = mount(max=1)
    if mp.settings.gvisor:
        pytest.skip("gVisor mounts a file system at /tmp, which nothing can replace")
    leave(mp, "mkdir /var/tmp/mine && touch /var/tmp/mine/file && rm -rf /tmp && ln -s /var/tmp/mine /tmp")
    lease = mp.lease()
    assert lease.run("ls -A /tmp; test ! -L /tmp && touch /tmp/x && echo there") == ("there\n", 0)


@pytest.mark.local
def test_tmp_of_the_host_is_not_emptied(mount, tmp_path):
    """isolate=none: /tmp is the machine's, and an environment has a directory of its own for such files."""
    mp = mount(isolate="none", max=1, reset="workdir")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("x")
    first = leave(mp, "touch $TMPDIR/x && mkdir $TMPDIR/y")
    again = leave(mp, f"test -z \"$(ls -A $TMPDIR)\" && rmdir $TMPDIR && ln -s {mine} $TMPDIR")
    assert again == first
    assert leave(mp, "test ! -L $TMPDIR && test -z \"$(ls -A $TMPDIR)\" && touch $TMPDIR/x") == first
    assert (mine / "file").read_text() == "x"


@pytest.mark.modal
def test_volumes_are_left_alone(mount, settings):
    """Also volumes at or below /tmp."""
    settings.simulator.volume("cache")
    for options, keep in ((dict(volumes="cache:/tmp/a/cache"), "/tmp/a/cache"), (dict(volumes="cache:/tmp"), "/tmp")):
        mp = mount(max=1, **options)
        first = leave(mp, f"echo kept > {keep}/file && touch /tmp/x && {{ touch /tmp/a/x || true; }} 2>/dev/null")
        lease = mp.lease()
        output, _ = lease.run(f"cat {keep}/file; cd /tmp; ls -Ad x a/x 2>/dev/null")
        assert output == ("kept\n" if keep != "/tmp" else "kept\nx\n")
        assert lease.read("environment") == first
        lease.run(f"rm -rf {keep}/*")
        mp.stop()
