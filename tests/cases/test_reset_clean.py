# SPDX-License-Identifier: MIT
"""
reset=clean: a lease finds its environment as it was when it became ready, or a new one.

Each way to leave something is either undone or ends the environment, and the next lease sees that. How the helper
compares, and what else it notices, is tested in tests/helper/test_reset.py.
"""

import concurrent.futures
import json
import os
import re

import pytest

pytestmark = pytest.mark.exact
CANNOT = 77  # exit code of a way that its sandbox does not allow
THIS = "4321"  # seconds that a process would sleep

# What an image would bring. Modal's ready= makes it before a sandbox is noted; the local backend has no images.
SYSTEM = r"""
mkdir -p /app/src /testbed /usr2/bin /home2 /site/pkg /etc/cron.d /etc/profile.d /opt2/deep/er /app/empty /app/other || exit 1
for i in 1 2 3; do echo $i > /app/src/$i || exit 1; done
echo code > /app/main.py; echo test > /testbed/test.py; echo conf > /etc/conf; echo tool > /usr2/bin/tool
chmod 755 /usr2/bin/tool; echo rc > /home2/.bashrc; echo init > /site/pkg/__init__.py; echo x > /opt2/deep/er/file
test -e /app/link || ln -s main.py /app/link; test -e /app/hard || ln /app/main.py /app/hard; test -e /app/fifo || mkfifo /app/fifo
echo a > /app/empty/a; echo b > /app/other/b; head -c 16384 /dev/zero > /app/big
cp /bin/sleep /usr2/bin/sleep; chmod 4755 /usr2/bin/sleep; touch -d 2001-01-01 /app/old /testbed
"""

# Everything that a job can see of it, but for what it makes itself.
LOOK = r"""
find / \( -path /proc -o -path /sys -o -path /usr -o -path /tmp -o -path /var/tmp -o -path /dev -o -path /run -o -path /root/hermes_tasks \) -prune \
    -o \( -path / -o -path /root \) -printf '%p %y %m %U %G\n' \
    -o -type d -printf '%p %y %m %U %G %T@\n' -o -printf '%p %y %m %U %G %l %s %T@\n' | sort
find /app /testbed /usr2 /home2 /site /opt2 -type f 2>/dev/null | sort | xargs -r cksum
ls -A /tmp /var/tmp /dev/shm /root /run/user 2>/dev/null; ls -A /dev | grep -v fd; stat -c '%n %a %u' /tmp /var/tmp /dev/shm 2>/dev/null
cat /proc/sys/kernel/hostname; wc -l < /proc/self/mountinfo; cat /proc/sysvipc/*  | wc -l; grep -c . /proc/net/unix
"""

# name: (command, whether it needs what SYSTEM makes)
UNDONE = {
    "a file in /app": ("mkdir -p /app; echo x > /app/new", False),
    "a file in /etc": ("echo x > /etc/new", False),
    "files in many places": ("for d in / /etc /var /root /run; do echo x > $d/new; done", False),
    "files beside those of the image": ("for d in /app /testbed /usr2/bin /home2 /site /opt2/deep/er; do echo x > $d/new; done", True),
    "a tree": ("mkdir -p /var/a/b/c; echo x > /var/a/b/c/f; ln -s / /var/a/root; mkfifo /var/a/p", False),
    "many files": ("mkdir /var/many; cd /var/many; seq 3000 | xargs touch", False),
    "a package in site-packages": ("mkdir -p /site/new/sub /site/new.dist-info /site/pkg/__pycache__; echo x > /site/new/sub/f; "
                                   "echo x > /site/pkg/__pycache__/init.pyc", True),
    "a .pth": ("mkdir -p /site; echo 'import os' > /site/evil.pth", False),
    "cron": ("mkdir -p /etc/cron.d; echo '* * * * * root true' > /etc/cron.d/job; mkdir -p /var/spool/cron; echo x > /var/spool/cron/root", False),
    "profiles": ("mkdir -p /etc/profile2.d; echo 'echo hi' > /etc/profile2.d/x.sh; echo x > /root/.profile; echo x > ~/.bash_history", False),
    "ld.so.preload": ("echo > /etc/ld.so.preload", False),
    "a program in PATH": ("mkdir -p /usr2/bin /root/bin; printf '#!/bin/sh\\n' > /usr2/bin/ls; chmod 4755 /usr2/bin/ls; cp /bin/true /root/bin/git", False),
    "a symbolic link": ("ln -s /etc /var/to; ln -s nowhere /root/lost", False),
    "a hard link to what is new": ("echo x > /var/one; ln /var/one /var/two", False),
    "a file of an old time": ("echo x > /var/new; touch -d 1999-01-01 /var/new; chmod 0 /var/new", False),
    "a file that came from elsewhere": ("echo x > /tmp/f; mv /tmp/f /var/f; touch -d 2001-01-01 /var/f", False),
    "made and removed": ("echo x > /var/new; rm /var/new; mkdir /etc/d; rmdir /etc/d", False),
    "times of directories": ("touch -d 2001-02-03 /etc /var /root", False),
    "a socket": ("cd /var; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'", False),
    "what is emptied": ("for d in /tmp /var/tmp /dev/shm; do mkdir -p $d; echo x > $d/f; mkdir $d/.d; done", False),
    "the mode of what is emptied": ("chmod 700 /tmp; chmod 711 /var/tmp", False),
    "what is emptied, removed": ("rm -rf /var/tmp && rm -rf /dev/shm", False),
    "what is emptied, replaced": ("rm -rf /var/tmp && ln -s /root /var/tmp", False),
    "a sparse file": ("truncate -s 1T /var/sparse || exit 77", False),
    "a background process": (f"sleep {THIS} > /dev/null 2>&1 & exit 0", False),
    "a process that has left its session": (f"setsid -f sleep {THIS} > /dev/null 2>&1", False),
    "a process that was forked twice": (f"(setsid sh -c 'sleep {THIS} & exit 0' > /dev/null 2>&1 &); exit 0", False),
    "a stopped process": (f"sleep {THIS} > /dev/null 2>&1 & kill -STOP $!", False),
    "a process that ignores signals": (f"(trap '' TERM HUP INT QUIT; exec setsid sleep {THIS}) > /dev/null 2>&1 & exit 0", False),
    "a process of another user": (f"setpriv --reuid 1 --clear-groups true || exit 77; setpriv --reuid 1 --clear-groups setsid -f sleep {THIS} > /dev/null 2>&1", False),
    "a process on a terminal": (f"script -qfc 'setsid -f sleep {THIS}; sleep 0.1' /dev/null > /dev/null 2>&1", False),
    "an open file of a deleted name": (f"exec 9> /var/gone; rm /var/gone; setsid -f sleep {THIS} > /dev/null 2>&1", False),
    "an abstract socket": (f"python3 -c 'import os, socket, time\ns = socket.socket(socket.AF_UNIX); s.bind(chr(0) + \"mine\"); s.listen()\n"
                           f"if os.fork() == 0: os.setsid(); os.closerange(0, 3); time.sleep({THIS})'", False),
    "shared memory": ("ipcmk -M 4096 -S 1 -Q > /dev/null || exit 77; echo x > /dev/shm/segment", False),
    "a mount": ("mkdir /var/m; mount -t tmpfs none /var/m 2> /dev/null || exit 77; echo x > /var/m/f", False),
    "a mount over a directory": ("mount -t tmpfs none /var 2> /dev/null || exit 77; echo x > /var/f", False),
    "a bind mount over a file": ("echo evil > /tmp/f; mount --bind /tmp/f /etc/passwd 2> /dev/null || exit 77", False),
}

# name: (command, the path that is named, or one of these, whether it needs what SYSTEM makes)
ENDED = {
    "the mode of a directory": ("chmod 777 /root", "/root", False),
    "the mode of the root": ("chmod 711 /", "/", False),
    "a directory that is gone": ("rm -r /var", "/", False),
    "a directory renamed": ("mv /var /var2", "/var2", False),
    "a file in place of a directory": ("rm -r /var; echo x > /var", "/var", False),
    "a link that points elsewhere": ("ln -sfn usr/bin /sbin", "/sbin", False),
    "an attribute of a directory": ("python3 -c 'import os; os.setxattr(\"/root\", \"user.x\", b\"y\")' 2> /dev/null || exit 77", "/root", False),
    "changed": ("echo evil > /app/main.py", "/app/main.py /app/hard", True),
    "changed, with its size and times": ("stat=$(stat -c %y /etc/conf); echo evil > /etc/conf; touch -d \"$stat\" /etc/conf", "/etc/conf", True),
    "appended": ("echo x >> /home2/.bashrc", "/home2/.bashrc", True),
    "truncated": (": > /opt2/deep/er/file", "/opt2/deep/er/file", True),
    "grown without content": ("truncate -s 1M /app/big", "/app/big", True),
    "a hole": ("fallocate -p -o 0 -l 4096 /app/big || exit 77", "/app/big", True),
    "deleted": ("rm /testbed/test.py", "/testbed/", True),
    "renamed": ("mv /testbed/test.py /testbed/x.py", "/testbed/x.py", True),
    "moved away": ("mv /testbed/test.py /tmp/", "/testbed/", True),
    "replaced": ("cp -p /app/main.py /app/x; mv /app/x /app/main.py", "/app/main.py", True),
    "directories swapped": ("cd /app; mv empty t; mv other empty; mv t other", "/app/empty/ /app/other/", True),
    "files swapped": ("cd /app/src; mv 1 t; mv 2 1; mv t 2", "/app/src/1 /app/src/2", True),
    "the mode of a program": ("chmod 4755 /usr2/bin/tool", "/usr2/bin/tool", True),
    "an owner": ("chown 1 /home2/.bashrc 2> /dev/null || exit 77", "/home2/.bashrc", True),
    "a time": ("touch -d 2001-02-03 /app/main.py", "/app/main.py /app/hard", True),
    "a hard link to what was there": ("ln /etc/conf /app/conf", "/etc/conf /app/", True),
    "the name of the host": ("hostname evil 2> /dev/null || exit 77", "/proc/sys/kernel/hostname", False),
    "a full disk": ("head -c 3G /dev/zero > /var/fill 2> /dev/null; exit 0", None, False),
}

# What the kernel of Modal's sandboxes does not show, of a file that had been changed before.
HIDDEN = {
    "written through memory": ("python3 -c 'import mmap; f = open(\"/app/big\", \"r+b\"); m = mmap.mmap(f.fileno(), 0); m[5000] = 1; m.flush()'",
                               "/app/big"),
    "an attribute": ("python3 -c 'import os; os.setxattr(\"/app/main.py\", \"user.x\", b\"y\")' || exit 77", "/app/main.py /app/hard"),
    "a hard link, gone again": ("ln /etc/conf /app/conf; rm /app/conf", "/etc/conf"),
}


@pytest.fixture
def clean(mount, settings):
    """clean(max=1): a mount with reset=clean whose environments have what SYSTEM makes, where that can be."""
    def make(**options):
        if settings.simulator:
            if not settings.helper:
                pytest.skip("only a helper can compare")
            options.setdefault("ready", "; ".join(line for line in SYSTEM.splitlines() if line))
        return mount(reset="clean", **options)
    return make


def possible(settings, ways):
    """Without those that need an image that brings files, where there is none."""
    return {name: way for name, way in ways.items() if settings.simulator or not way[-1]}


def look(mp):
    """A lease that only looks: its environment, and what it sees."""
    lease = mp.lease("look")
    seen, code = lease.run(LOOK)
    environment = lease.read("environment").strip()
    lease.release()
    mp.until_settled()
    assert code == 0, seen
    return environment, seen


def are_named(paths, found):
    return len(found) == 1 and found[0] in paths.split()


def without_times(seen):
    """As two environments have it."""
    return [re.sub(r" \d+\.\d+$", "", line) for line in seen.splitlines()]


def leave(mp, command):
    """A lease that leaves something: its environment, or None where the sandbox does not allow that."""
    lease = mp.lease("leave")
    output, code = lease.run(command)
    environment = lease.read("environment").strip()
    lease.release()
    mp.until_settled()
    assert code in (0, CANNOT), (command, output, code)
    return environment if code == 0 else None


def changed(mp, environment):
    """What the event says of it."""
    with open(mp / ".pool/events", "rb", buffering=0) as events:
        os.set_blocking(events.fileno(), False)
        data = b""
        while True:
            more = events.read(1 << 20)
            if not more:
                break
            data += more
    found = [json.loads(line) for line in data.splitlines()]
    return [one.get("reason") for one in found if one.get("environment") == environment and one["state"] in ("changed", "clean-failed")]


@pytest.mark.limit(240)
def test_what_is_undone(clean, settings):
    """The next lease has the same environment, and sees what the first one saw."""
    mp = clean(max=1)
    first = look(mp)
    wrong, impossible = {}, []
    for name, (command, _) in possible(settings, UNDONE).items():
        before = leave(mp, command)
        after = look(mp)
        if not before:
            impossible.append(name)
        elif after != first:
            wrong[name] = (before, after[0], changed(mp, before), sorted(set(after[1].splitlines()) ^ set(first[1].splitlines())))
        if after[0] != first[0]:  # an impossible one may have left something
            first = (after[0], first[1])
        if mp.alive("sleep", 0):
            wrong[name] = "processes"
    print("not possible there:", impossible)
    assert not wrong, wrong
    assert len(impossible) <= 6


@pytest.mark.limit(240)
def test_what_ends_the_environment(clean, settings):
    """The next lease has another one, and sees what the first lease saw; the event says which path it was."""
    mp = clean(max=1, **({} if settings.simulator else {"size": "64M"}))
    first = without_times(look(mp)[1])
    wrong, impossible = {}, []
    for name, (command, path, _) in possible(settings, ENDED).items():
        if path is None and settings.simulator:
            continue  # its disk is as large as memory
        before = leave(mp, command)
        after = look(mp)
        if not before:
            impossible.append(name)
        elif after[0] == before or without_times(after[1]) != first:
            wrong[name] = (before, sorted(set(without_times(after[1])) ^ set(first)))
        elif path and not are_named(path, changed(mp, before)):
            wrong[name] = changed(mp, before)
    print("not possible there:", impossible)
    assert not wrong, wrong
    assert len(impossible) <= 5


def test_what_gvisor_hides(clean, settings):
    """Elsewhere it is noticed. Where it is not, the man page says so."""
    if not settings.simulator:
        pytest.skip("the local backend has no image that brings files")
    mp = clean(max=1)
    environment = look(mp)[0]
    for name, (command, path) in HIDDEN.items():
        before = leave(mp, command)
        after = look(mp)[0]
        if before:
            assert (after == before) == settings.gvisor, name
            assert settings.gvisor or are_named(path, changed(mp, before)), name
    assert environment


WHEEL = r"""python3 -c '
import zipfile
with zipfile.ZipFile("mine-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("mine.py", "print(42)")
    wheel.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    wheel.writestr("mine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("mine-1.0.dist-info/RECORD", "")
'; """
PIP = WHEEL + "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip -q install --no-index --no-deps --no-warn-script-location "
REPOSITORY = ("git init -q origin && cd origin && git config user.email a@b && git config user.name a && echo x > f && git add f && "
              "git commit -qm one && cd .. && ")

# name: (command, whether the environment is given back, what it needs). Where it is not, something of the image was changed.
JOBS = {
    "python with imports": ("python3 -c 'import json, sqlite3, urllib.request, xml.dom.minidom, concurrent.futures'", True, "python3"),
    "pytest": ("printf 'def test_it(): assert 1 + 1 == 2\n' > test_it.py && python3 -m pytest -q", True, "pytest"),
    "pip install --user": (PIP + "--user ./mine-1.0-py3-none-any.whl && python3 -m mine", True, "pip"),
    "pip install -t": (PIP + "-t lib ./mine-1.0-py3-none-any.whl && PYTHONPATH=lib python3 -m mine", True, "pip"),
    "npm install": ("mkdir -p mine && echo '{\"name\": \"mine\", \"version\": \"1.0.0\"}' > mine/package.json && echo '{}' > package.json && "
                    "npm install --offline --no-audit --no-fund --silent ./mine && test -e node_modules/mine", True, "npm"),
    "make in the workdir": ("printf 'all: out\nout:\n\techo made > out\n' > Makefile && make -s && cat out", True, "make"),
    "git clone": (REPOSITORY + "git clone -q origin copy && cat copy/f", True, "git"),
    "sqlite": ("sqlite3 data.db 'create table t(x); insert into t values(1); select * from t'", True, "sqlite3"),
    "tar x in the workdir": ("mkdir a && seq 100 > a/f && tar cf a.tar a && rm -r a && tar xf a.tar && cat a/f | wc -l", True, "tar"),
    "a server started and killed": ("python3 -m http.server 8765 > /dev/null 2>&1 & for i in $(seq 100); do python3 -c 'import urllib.request as u; "
                                    "u.urlopen(\"http://127.0.0.1:8765\")' 2> /dev/null && break; sleep 0.1; done; kill %1", True, "python3"),
    "a server that is left": ("setsid -f python3 -m http.server 8766 > /dev/null 2>&1", True, "python3"),
    "a virtual environment": ("python3 -m venv --without-pip ~/venv && ~/venv/bin/python -c 'import sys; print(sys.prefix)'", True, "python3"),
    "git config --global": ("git config --global user.name me && cat ~/.gitconfig", True, "git"),
    "gcc": ("printf 'int main(void) { return 0; }\n' > a.c && gcc -o a a.c && ./a", True, "gcc"),
    "a program installed in the home directory": ("mkdir -p ~/.local/bin && cp /bin/true ~/.local/bin/mine && ~/.local/bin/mine", True, "python3"),
    "files in /app beside the image's": ("mkdir -p /app/build && echo x > /app/build/out && echo x > /app/answer", True, "python3"),
    "sed -i of a file of the image": ("sed -i s/code/other/ /app/main.py", False, "image"),
    "a line for .bashrc": ("echo 'export A=1' >> /home2/.bashrc", False, "image"),
    "chmod -R of the image's directory": ("chmod -R go-r /app", False, "image"),
    "git init in the image's directory": ("cd /app && git init -q . && git add main.py", True, "git image"),
    "apt-get update": ("apt-get update", None, "registry"),
    "pip install from an index": ("python3 -m pip install --user requests", None, "registry"),
}
MUST = list(JOBS)[:10]


def need_file(path):
    if not os.path.exists(path):
        pytest.skip(f"{path} is not installed")


def need_all(settings, words):
    """What sandboxes have of this machine, and what they do not have."""
    for word in words.split():
        if word == "registry":
            pytest.skip("needs a registry of packages, and no sandbox here reaches one")
        if word == "image" and not settings.simulator:
            pytest.skip("the local backend has no image that brings files")
        if word in ("pytest", "pip"):
            need_file(f"/usr/lib/python3/dist-packages/{word}/__init__.py")
        elif word != "image":
            need_file("/usr/bin/" + word)


@pytest.mark.parametrize("job", JOBS)
def test_ordinary_jobs(clean, settings, job):
    """Most give the environment back, and the next lease sees nothing of it."""
    command, given_back, needs = JOBS[job]
    assert given_back or job not in MUST
    need_all(settings, needs)
    mp = clean(max=1)
    first = look(mp)
    before = leave(mp, command)
    after = look(mp)
    assert before == first[0]
    if given_back:
        assert after == first, changed(mp, before)
    else:
        assert after[0] != before and without_times(after[1]) == without_times(first[1])


def attempt(mp, name, solves):
    """One trial of an evaluation: its task's files, an agent, a check."""
    lease = mp.lease(name)
    lease.run(f"mkdir -p /app && echo {name} > /app/task")
    if solves:
        lease.run("mkdir -p /app/out ~/.cache && tr a-z A-Z < /app/task > /app/out/answer && cp /app/out/answer ~/.cache/")
    output, code = lease.run("test \"$(cat /app/out/answer)\" = \"$(tr a-z A-Z < /app/task)\" || test -e ~/.cache/answer")
    lease.release()
    return code == 0


@pytest.mark.limit(120)
def test_an_evaluation(clean):
    """16 trials, 8 at once, a pool of 4: who solves the task has 1.0, who does nothing 0.0, in environments that are used again."""
    mp = clean(max=4)
    for solves in True, False:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            scores = list(pool.map(lambda n: attempt(mp, f"trial{n}{'s' if solves else 'n'}", solves), range(16)))
        assert sum(scores) / 16 == (1.0 if solves else 0.0)
    mp.until_settled()
    stats = mp.stats()
    again = 1 - stats["environments_created_total"] / stats["leases_granted_total"]
    print(f"{again:.0%} of the leases used an environment again: {stats['environments_returned']}")
    assert stats["environments_returned"]["changed"] == 0 and again >= 0.5


def test_counts_and_advice(clean, settings):
    """Stats count what became of environments, and the log says once which path is changed most."""
    mp = clean(max=1)
    leave(mp, "true")
    for n in range(9):
        leave(mp, "chmod 777 /root" if n % 3 else "chmod 711 /")
    leave(mp, "true")
    returned = mp.stats()["environments_returned"]
    assert (returned["clean"], returned["changed"]) == (2, 9)
    advice = [line for line in mp.lines if "leases ended their environment" in line]
    assert len(advice) == 1 and " by a change of /root; " in advice[0] and "unwatched" in advice[0]
    text = (mp / ".pool/metrics").read_text()
    assert 'modalpool_environments_returned_total{how="changed"} 9' in text


def test_unwatched_and_emptied(clean):
    """What is not watched passes to the next lease; what is emptied is empty for it."""
    mp = clean(max=1, unwatched="/var/cache:/root/.kept", emptied="/tmp:/var/mine")
    first = leave(mp, "mkdir -p /var/cache/a /var/mine && echo x > /var/cache/a/f && echo y > /root/.kept && echo z > /root/.gone; echo z > /var/mine/f")
    lease = mp.lease()
    assert lease.run("cat /var/cache/a/f /root/.kept; test ! -e /root/.gone && test ! -e /var/mine && echo gone") == ("x\ny\ngone\n", 0)
    assert lease.read("environment").strip() == first


def test_volumes(clean, settings):
    """They are not looked at, not even where a directory is to be emptied."""
    if not settings.simulator:
        pytest.skip("the local backend has no volumes")
    settings.simulator.volume("cache")
    mp = clean(max=1, volumes="cache:/var/tmp")
    first = leave(mp, "echo kept > /var/tmp/f; chmod 700 /var/tmp; echo x > /tmp/f")
    lease = mp.lease()
    assert lease.run("cat /var/tmp/f; ls -A /tmp") == ("kept\n", 0) and lease.read("environment").strip() == first


@pytest.mark.limit(60)
def test_after_a_restart(clean, settings):
    """The journal says that an environment was noted, also to the run after the next."""
    mp = clean(max=1, **({} if settings.simulator else {"orphan_timeout": 60}))
    first, seen = look(mp)
    lease = mp.lease("goes-on")
    lease.run("echo x > /var/new")
    for _ in range(2):
        mp.crash(survives=True)
        mp.lines.clear()
        mp.start()
        mp.until(lambda: lease.status()["state"] == "leased")
    assert lease.run("cat /var/new") == ("x\n", 0)
    lease.release()
    mp.until_settled()
    again, sees = look(mp)
    assert again == first
    assert sees.splitlines()[:-1] == seen.splitlines()[:-1]  # the last counts sockets: the helper has called its new daemon
    assert leave(mp, "chmod 711 /root") == first
    assert changed(mp, first) == ["/root"] and look(mp)[0] != first


# 200,000 entries, in one go; a second call leaves them.
LARGE = r"""test -e /large/done || python3 -c '
import os
for d in range(2000):
    os.makedirs(f"/large/{d % 50}/{d}", exist_ok=True)
    for i in range(99): os.close(os.open(f"/large/{d % 50}/{d}/{i}", os.O_CREAT))
os.close(os.open("/large/done", os.O_CREAT))
'"""

# The processor time in seconds that the helper's children have used; then that of find over the same entries.
CLEANERS = "set -- $(cat /proc/$(cut -d' ' -f4 /proc/$PPID/stat)/stat); echo $((${16} + ${17})) $(getconf CLK_TCK)"
FIND = r"""python3 -c '
import resource, subprocess
subprocess.run(["find", "/large", "-printf", r"%p %m %U %G %s %T@ %C@ %l\n"], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
'"""


@pytest.mark.many
@pytest.mark.limit(600)
def test_a_large_image(mount, settings):
    """
    200,000 entries: noted, and compared, in 1 s of a processor, and in 15 s where the kernel is gVisor. Processor time,
    as the machine may be busy. tests/helper/test_reset.py shows it of the helper alone.
    """
    if not settings.simulator or not settings.helper:
        pytest.skip("needs an image that brings files, and a helper that compares")
    mp = mount(reset="clean", max=1, min=1, ready=LARGE, emptied="/tmp")
    assert mp.hears(" entries in ")
    line = [line for line in mp.lines if " entries in " in line][0]
    assert int(re.search(r"(\d+) entries", line)[1]) > 200_000

    def lease(command):
        lease = mp.lease()
        found = lease.read("environment"), *lease.run(CLEANERS), *lease.run(command)
        lease.release()
        mp.until_settled()
        ticks, per_second = map(int, found[1].split())
        assert (found[2], found[4]) == (0, 0), found
        return found[0], ticks / per_second, found[3]

    environment, noted, _ = lease("echo x > /large/7/57/new; mkdir /large/8/d")
    after, both, find = lease(FIND)
    compared, find = both - noted, float(find)
    print(f"\n{line}; processor time: noted in {noted:.2f} s, compared in {compared:.2f} s, find takes {find:.2f} s, "
          f"{noted / find:.1f} and {compared / find:.1f} times that")
    assert after == environment
    assert lease("echo x >> /large/7/57/3")[0] == environment and lease("true")[0] != environment
    most = 15 if settings.gvisor else 1
    assert noted < most and compared < most


def test_without_a_helper(mount, settings):
    """Nothing can compare: each lease gets an environment of its own, and the log says so."""
    if settings.simulator:
        mp = mount(max=1, reset="clean", helper="no")
        assert mp.hears("reset=clean acts as reset=environment, because only a helper can compare")
    else:
        mp = mount(max=1, reset="clean", isolate="none")
    first = leave(mp, "true")
    assert leave(mp, "true") != first
    assert mp.hears("acts as reset=environment" if settings.simulator else "it cannot be noted, and serves one lease only")
    assert mp.stats()["environments_returned"]["single_use"] == 2


def test_paths_of_any_bytes(clean):
    """In events and log they are shown as text."""
    mp = clean(max=1)
    look(mp)
    before = leave(mp, r"""mv /var "$(printf '/v\033[2J\n\377')" """)
    look(mp)
    assert changed(mp, before) == ["/v [2J ?"]
    assert mp.hears("not as it was, destroying it; changed or gone: /v [2J ?")
