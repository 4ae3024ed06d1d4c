# SPDX-License-Identifier: MIT
"""Channels: connections to ports and watches of files, over carriers that break, with windows that are kept."""

import errno
import hashlib
import os
import time

import pytest

import daemon as daemon_module
import wire

SERVER = r"""
import socket, sys
s = socket.socket(socket.AF_INET6 if sys.argv[2] == "6" else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::1" if sys.argv[2] == "6" else "127.0.0.1", int(sys.argv[1])))
s.listen(300)
print("listening", flush=True)
while True:
    c, _ = s.accept()
    exec(sys.argv[3])
"""
ECHO = """
while True:
    data = c.recv(65536)
    if not data: break
    c.sendall(data)
c.close()
"""
PORT = 18080
NUMBERS = b"".join(b"%09d\n" % i for i in range(150_000))  # 1.5 MB: more than a window


def serve(daemon, code, port=PORT, family="4"):
    import shlex
    job = daemon.start(f"exec python3 -u -c {shlex.quote(SERVER)} {port} {family} {shlex.quote(code)}")
    daemon.run(lambda: b"listening" in job.out or job.end)
    assert not job.end, bytes(job.err)
    return job


@pytest.mark.parametrize("family", ["4", "6"])
def test_both_ways(daemon, family):
    serve(daemon, ECHO, family=family)
    channel = daemon.connect(PORT)
    daemon.run(lambda: channel.opened)
    daemon.write(channel, NUMBERS, end=True)
    daemon.run(lambda: channel.ended)
    assert channel.received == NUMBERS and channel.error is None
    daemon.close_channel(channel)
    daemon.run(lambda: channel.closed)


def test_nobody_listens(daemon):
    channels = [daemon.connect(port) for port in (1, 0, 45678)]
    daemon.run(lambda: all(channel.error is not None for channel in channels))
    assert [channel.error for channel in channels] == [errno.ECONNREFUSED] * 3
    for channel in channels:
        daemon.close_channel(channel)
    daemon.run(lambda: not daemon.channels)


def test_a_greeting_needs_no_second_round_trip(daemon):
    """What the server says first comes behind OPENED, before the daemon has said anything more."""
    serve(daemon, "c.sendall(b'hello'); c.close()")
    channel = daemon.connect(PORT)
    daemon._tell_window = lambda channel: None
    daemon.run(lambda: channel.ended)
    assert channel.received == b"hello" and channel.opened


def test_half_close(daemon):
    serve(daemon, "n = 0\nwhile True:\n data = c.recv(65536)\n n += len(data)\n if not data: break\nc.sendall(b'%d' % n); c.close()")
    channel = daemon.connect(PORT)
    daemon.run(lambda: channel.opened)
    daemon.write(channel, b"x" * 700_000, end=True)
    daemon.run(lambda: channel.ended)
    assert channel.received == b"700000"


def test_a_server_that_answers_before_it_has_read(daemon):
    """Its answer arrives, although what was sent cannot be handed on any more."""
    serve(daemon, "c.recv(1000); c.sendall(b'enough'); c.shutdown(socket.SHUT_WR); import time; time.sleep(0.2); c.close()")
    channel = daemon.connect(PORT)
    daemon.run(lambda: channel.opened)
    daemon.write(channel, b"y" * 3_000_000)
    daemon.run(lambda: channel.over)
    assert channel.received == b"enough"


def test_nothing_is_sent_beyond_the_window(daemon):
    """A reader that stops holds up its own channel; jobs and other channels go on."""
    serve(daemon, "c.sendall(b'z' * 5_000_000); c.close()")
    serve(daemon, ECHO, port=PORT + 1)
    slow, other = daemon.connect(PORT), daemon.connect(PORT + 1)
    slow.hold = True
    daemon.run(lambda: len(slow.received) == slow.window and other.opened)
    assert daemon.do("echo on").out == b"on\n"
    daemon.write(other, b"ping", end=True)
    daemon.run(lambda: other.ended)
    assert len(slow.received) == slow.window and other.received == b"ping"
    slow.hold = False
    daemon._tell_window(slow)
    daemon.run(lambda: slow.ended)
    assert slow.received == b"z" * 5_000_000


def test_carriers_that_break(daemon):
    """Whatever is lost with a carrier is sent again over the next one, and nothing twice."""
    serve(daemon, ECHO)
    channel = daemon.connect(PORT)
    daemon.run(lambda: channel.opened)
    daemon.write(channel, NUMBERS, end=True)
    for cut in [100, 70_000, 200_001, 333_333, 500_000]:
        daemon.attach(to_receive=cut)
        try:
            daemon.run(lambda: channel.ended)
        except daemon_module.Gone:
            pass
        daemon.attach(to_send=cut // 2, wait=False)
        try:
            daemon.run(lambda: channel.ended)
        except daemon_module.Gone:
            pass
    daemon.attach()
    daemon.run(lambda: channel.ended)
    assert hashlib.sha256(channel.received).digest() == hashlib.sha256(NUMBERS).digest()
    daemon.close_channel(channel)
    daemon.run(lambda: channel.closed)


def test_close_hands_on_what_was_sent(daemon):
    serve(daemon, "n = 0\nwhile True:\n import time; time.sleep(0.01)\n data = c.recv(4096)\n n += len(data)\n if not data: break\nprint('got', n, flush=True)")
    channel = daemon.connect(PORT, window=wire.CHANNEL_WINDOW)
    daemon.run(lambda: channel.opened)
    daemon.write(channel, b"x" * 200_000)
    daemon.close_channel(channel)
    daemon.run(lambda: channel.closed)
    job = next(iter(daemon.jobs.values()))
    daemon.run(lambda: b"got 200000\n" in job.out)


def test_many_and_too_many(daemon):
    serve(daemon, "import threading; threading.Thread(target=lambda c=c: c.sendall(c.recv(100)), daemon=True).start()")
    channels = [daemon.connect(PORT, window=wire.CHANNEL_WINDOW_MIN) for _ in range(wire.CHANNELS_MAX)]
    daemon.run(lambda: all(channel.opened for channel in channels))
    for number, channel in enumerate(channels):
        daemon.write(channel, b"%d" % number)
    daemon.run(lambda: all(channel.received for channel in channels))
    assert [bytes(channel.received) for channel in channels] == [b"%d" % number for number in range(len(channels))]
    daemon.connect(PORT)
    with pytest.raises(daemon_module.Gone):
        daemon.run(lambda: False)
    assert daemon.carrier.error == "OPEN of too many channels"


def test_another_daemon_finds_none(box, make_daemon):
    old = make_daemon(box, epoch=5)
    serve(old, ECHO)
    channel = old.connect(PORT)
    old.run(lambda: channel.opened)
    new = make_daemon(box, attach=False, epoch=6)
    new.jobs = old.jobs
    new.attach()
    stray = new.open(wire.PORT, port=PORT, flags=wire.RESUME)
    new.run(lambda: stray.error is not None)
    assert stray.error == errno.ECONNRESET


def test_a_clean_up_ends_them(daemon):
    serve(daemon, ECHO)
    channel, watch = daemon.connect(PORT), daemon.watch("/tmp")
    daemon.run(lambda: channel.opened)
    assert daemon.clean() == (0, b"")
    daemon.run(lambda: channel.error is not None and watch.error is not None)
    assert channel.error == watch.error == errno.ECONNRESET


def breach(*frames):
    return lambda daemon: [daemon.send(name, data, **fields) for name, fields, data in frames]


OPEN = ("OPEN", {"channel": 1, "port": PORT, "window": wire.CHANNEL_WINDOW}, b"")


@pytest.mark.parametrize("why, frames", [
    ("DATA or WINDOW of a channel that is not open", [("DATA", {"channel": 7}, b"x")]),
    ("DATA or WINDOW of a channel that is not open", [("WINDOW", {"channel": 7}, b"")]),
    ("DATA beyond its window, or behind a gap", [OPEN, ("DATA", {"channel": 1, "offset": 5}, b"x")]),
    ("WINDOW of what was never sent", [OPEN, ("WINDOW", {"channel": 1, "offset": 5, "limit": 5}, b"")]),
    ("WINDOW of what was never sent", [OPEN, ("WINDOW", {"channel": 1, "limit": 1 << 40}, b"")]),
    ("DATA beyond its window, or behind a gap",
     [OPEN, ("DATA", {"channel": 1, "end": 1}, b"x"), ("DATA", {"channel": 1, "offset": 1}, b"y")]),
    ("OPEN with too small a window", [("OPEN", {"channel": 1, "window": 1}, b"")]),
    ("a frame that is none", [("OPEN", {"channel": 1, "window": wire.CHANNEL_WINDOW + 1}, b"")]),
    ("a frame that is none", [("OPEN", {"channel": 1, "window": wire.CHANNEL_WINDOW, "kind": 2}, b"")]),
])
def test_a_daemon_that_breaks_the_rules(daemon, why, frames):
    serve(daemon, "import time; time.sleep(1000)")
    breach(*frames)(daemon)
    with pytest.raises(daemon_module.Gone):
        daemon.run(lambda: False)
    assert daemon.carrier.error == why
    daemon.channels = {}
    daemon.attach()
    assert daemon.do("echo on").out == b"on\n"


# watches


def changes(channel):
    return [(line["event"], line.get("path")) for line in channel.lines()]


def test_what_changes(daemon):
    watch = daemon.watch(".", workdir="/tmp")
    assert watch.opened
    daemon.do("cd /tmp; echo 1 > a; chmod 600 a; mv a b; mkdir d; rm b; rmdir d; : > 'q\"'")
    daemon.run(lambda: ("close", 'q"') in changes(watch))
    assert changes(watch) == [("create", "a"), ("modify", "a"), ("close", "a"), ("attributes", "a"), ("rename", "b"),
                              ("create", "d"), ("delete", "b"), ("delete", "d"), ("create", 'q"'), ("close", 'q"')]
    assert watch.lines()[4] == {"event": "rename", "from": "a", "path": "b"}
    assert watch.lines()[5] == {"event": "create", "path": "d", "directory": True}


def test_below_directories_that_come_and_move(daemon):
    daemon.do("mkdir -p /tmp/w/a/b /tmp/w/c")
    watch = daemon.watch("w", recursive=True)
    daemon.do("cd /tmp/w; : > a/b/x; mv a/b c/b2; : > c/b2/y; mkdir -p n/m; : > n/m/z; mv c/b2 ..; : > ../b2/unseen; : > end")
    daemon.run(lambda: ("close", "w/end") in changes(watch))
    seen = changes(watch)
    for expected in [("close", "w/a/b/x"), ("close", "w/c/b2/y"), ("create", "w/n"), ("create", "w/n/m/z"), ("delete", "w/c/b2")]:
        assert expected in seen, (expected, seen)
    assert {"event": "rename", "from": "w/a/b", "path": "w/c/b2", "directory": True} in watch.lines()
    assert not [path for _, path in seen if "unseen" in path]


def test_the_watched_path_goes(daemon):
    daemon.do("mkdir /tmp/w; echo > /tmp/f")
    directory, file = daemon.watch("w"), daemon.watch("/tmp/f")
    daemon.do("rmdir /tmp/w; rm /tmp/f")
    daemon.run(lambda: directory.ended and file.ended)
    assert changes(directory) == [("gone", "w")] and changes(file)[-1] == ("gone", "/tmp/f")


def test_what_cannot_be_watched(daemon):
    daemon.do("echo > /tmp/f")
    assert daemon.watch("absent").error == errno.ENOENT
    assert daemon.watch("f", recursive=True).error == errno.ENOTDIR
    assert daemon.watch("f/x").error == errno.ENOTDIR
    assert daemon.watch("x" * 5000).error == errno.ENAMETOOLONG


def test_none_of_10000_is_missing_or_it_is_said(daemon):
    daemon.do("mkdir /tmp/w")
    watch = daemon.watch("w", recursive=True)
    daemon.do("cd /tmp/w; python3 -c 'for i in range(10000): open(str(i), \"w\").close()'; : > end")
    daemon.run(lambda: ("close", "w/end") in changes(watch) or ("overflow", None) in changes(watch))
    created = {path for event, path in changes(watch) if event == "create"}
    assert len(created) == 10001 or ("overflow", None) in changes(watch)


def test_names_that_are_no_utf8(daemon):
    watch = daemon.watch(".")
    daemon.do(r"cd /tmp; : > $(printf 'a\377b\001'); : > end")
    daemon.run(lambda: ("close", "end") in changes(watch))
    assert os.fsencode(changes(watch)[0][1]) == b"a\xffb\x01"


def test_a_watch_that_is_closed_leaves_no_process(box, daemon):
    watches = [daemon.watch("/tmp") for _ in range(64)]
    assert all(watch.opened for watch in watches)
    assert daemon.watch("/tmp").error == errno.EMFILE
    for watch in watches:
        daemon.close_channel(watch)
    daemon.run(lambda: all(watch.closed for watch in watches))
    deadline = time.monotonic() + 30  # they were sent KILL
    while [name for _, name, _ in box.processes().values() if "watch" in name]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert daemon.watch("/tmp").opened
