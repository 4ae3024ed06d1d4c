# SPDX-License-Identifier: MIT
"""Snapshots of a lease's environment, and the pools that are made of them: snapshot NAME in ctl."""

import concurrent.futures
import errno
import os
import shutil

import pytest

from test_lease import fails
from test_pools import events, lease_in

INSTALL = """set -e
mkdir -p /var/lib/tool/bin tree; ln -s bin /var/lib/tool/sbin
printf '#!/bin/sh\\necho tool 1.0\\n' > /var/lib/tool/bin/tool; chmod 755 /var/lib/tool/bin/tool; touch -d @1000000000 /var/lib/tool/bin/tool
for i in $(seq 1000); do echo $i > tree/$i; done
ln tree/1 tree/again; mkfifo tree/fifo; truncate -s 1G tree/sparse; echo end >> tree/sparse
mkdir tree/closed; echo inside > tree/closed/file; chmod 0 tree/closed tree/7
printf state > state; echo '{"port": 1}' > ~/.toolrc; echo kept > /tmp/kept
"""
CHECK = """set -e
/var/lib/tool/sbin/tool; stat -c '%Y %a' /var/lib/tool/bin/tool
ls tree | wc -l; cat tree/[1-9]* | cksum; ls -l tree/1 | cut -d' ' -f2; stat -c '%F %s %b' tree/fifo tree/sparse; tail -c 4 tree/sparse
stat -c '%a %Y' tree/closed tree/7 | cut -d' ' -f1; cat tree/closed/file; cat state ~/.toolrc /tmp/kept; pwd
"""


def snapshot(lease, name):
    lease.write("ctl", f"snapshot {name}\n")


def template(mp, name):
    """How far the pool is, by its .pool/status."""
    lines = (mp / f"@{name}/.pool/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("template "))


def until_taken(mp, name):
    mp.until(lambda: template(mp, name) not in ("taking",))


@pytest.mark.small
def test_forks(mount):
    """Eight at once, each changes the same file; none sees another, and the lease is as it was."""
    mp = mount(max=10)
    origin = mp.lease()
    assert origin.run(INSTALL) == ("", 0)
    before = origin.run(CHECK)
    assert before[1] == 0 and before[0].startswith("tool 1.0\n1000000000 755\n")
    snapshot(origin, "s")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        forks = list(threads.map(lambda i: lease_in(mp, "s", f"f{i}"), range(8)))  # before it is ready
        assert list(threads.map(lambda fork: fork.run(CHECK), forks)) == [before] * 8
        ends = list(threads.map(lambda fork: fork.run(f"echo {os.path.basename(fork.path)} >> state; rm tree/1; cat state; ls tree | wc -l"), forks))
    count = int(before[0].splitlines()[2])
    assert ends == [(f"statef{i}\n{count - 1}\n", 0) for i in range(8)]
    assert origin.run(CHECK) == before
    assert len({fork.read("environment") for fork in forks} | {origin.read("environment")}) == 9
