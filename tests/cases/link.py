# SPDX-License-Identifier: MIT
"""
A network of its own for a daemon, with a link that can be cut.

A process in a new network namespace listens there on the ports of a server and relays to the real ones: it asks for
each connection to be made out here, and is handed it. To cut the link is to take the namespace's loopback device down:
packets are dropped without a word, as on a real link. Needs root.
"""

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000


def _relay(channel, ports):
    """In the namespace: bytes both ways, until the lifeline ends."""
    selector = selectors.DefaultSelector()
    peers = {}

    def link(one, other):
        for end, peer in ((one, other), (other, one)):
            end.setblocking(True)
            peers[end] = peer
            selector.register(end, selectors.EVENT_READ, "data")

    def unlink(end):
        for one in (end, peers.get(end)):
            if one in peers:
                selector.unregister(one)
                del peers[one]
                one.close()

    for port in ports:
        listener = socket.create_server(("127.0.0.1", port))
        selector.register(listener, selectors.EVENT_READ, port)
    channel.send(b"ready")
    selector.register(channel, selectors.EVENT_READ, "channel")
    while True:
        for key, _ in selector.select():
            if key.data == "channel":
                return
            if key.data == "data":
                try:
                    data = key.fileobj.recv(1 << 16)
                    if data and key.fileobj in peers:
                        peers[key.fileobj].sendall(data)
                        continue
                except OSError:
                    pass
                unlink(key.fileobj)
            else:
                inside, _ = key.fileobj.accept()
                channel.send(str(key.data).encode())
                answer, fds, _, _ = socket.recv_fds(channel, 1, 1)
                if answer == b"+":
                    link(inside, socket.socket(fileno=fds[0]))
                else:
                    inside.close()


class Link:
    """`with Link(ports) as link:`, then run programs behind link.wrapper."""

    def __init__(self, ports):
        self.ports = ports

    def __enter__(self):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                self.channel.close()
                if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0:
                    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
                    _relay(theirs, self.ports)
                    status = 0
            finally:
                os._exit(status)
        theirs.close()
        assert self.channel.recv(16) == b"ready"
        self.wrapper = ["nsenter", "-t", str(self.pid), "-n"]
        self.thread = threading.Thread(target=self._connect, daemon=True)
        self.thread.start()
        return self

    def _connect(self):
        """Out here: connections for the relay."""
        while port := self.channel.recv(16):
            try:
                with socket.create_connection(("127.0.0.1", int(port))) as made:
                    socket.send_fds(self.channel, [b"+"], [made.fileno()])
            except ConnectionError:
                self.channel.send(b"-")

    def _set(self, state):
        subprocess.run([*self.wrapper, "ip", "link", "set", "lo", state], check=True)

    def cut(self):
        self._set("down")

    def mend(self):
        self._set("up")

    def __exit__(self, *exc):
        self.channel.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.channel.close()
        os.waitpid(self.pid, 0)
