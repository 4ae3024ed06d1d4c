"""What Modal's own Python SDK does in an ordinary day, told as one line of JSON.

Run as a process of its own, because the SDK reads its configuration from the
environment when it is imported.
"""

import json
import os
import socket
import sys

import certifi

if "SSL_CERT_FILE" in os.environ:
    # The SDK trusts certifi's list and nothing else, so the test CA has to be
    # put in its place; the check of the certificate stays as it is.
    certifi.where = lambda: os.environ["SSL_CERT_FILE"]

import modal  # noqa: E402

# Prints "up", and answers one connection with what it said, turned round.
SERVER = """
import socket
with socket.create_server(("127.0.0.1", 9000)) as s:
    print("up", flush=True)
    with s.accept()[0] as c:
        c.sendall(c.recv(100)[::-1])
"""


def files(box, said):
    tree = box.filesystem
    data = "0123456789" * 100_000
    tree.write_text(data, "/root/d/file")
    said["file"] = tree.read_text("/root/d/file") == data
    said["size"] = tree.stat("/root/d/file").size
    tree.make_directory("/root/d/sub")
    said["files"] = [entry.name for entry in tree.list_files("/root/d")]
    tree.remove("/root/d/sub")
    try:
        tree.read_text("/root/none")
    except modal.exception.SandboxFilesystemNotFoundError as e:
        said["missing"] = type(e).__name__


def tunnel(box, said):
    process = box.exec("python3", "-c", SERVER)
    assert next(iter(process.stdout)) == "up\n"
    with socket.create_connection(box.tunnels()[9000].tcp_socket) as connection:
        connection.sendall(b"abc")
        said["tunnelled"] = connection.recv(100).decode()
    process.wait()


def main():
    said = {}
    app = modal.App.lookup("witness", create_if_missing=True)
    image = modal.Image.from_registry("debian:bookworm").env({"COLOUR": "green"})
    tags = {"pool": "w1", "host": "here"}
    box = modal.Sandbox.create(app=app, image=image, timeout=120, tags=tags, env={"FLAVOUR": "mint"},
                               unencrypted_ports=[9000])
    said["sandbox"] = box.object_id

    process = box.exec("bash", "-c", "echo out; echo err >&2; echo $COLOUR $FLAVOUR; exit 7")
    said["stdout"], said["stderr"], said["code"] = process.stdout.read(), process.stderr.read(), process.wait()

    process = box.exec("cat")
    for i in range(3):
        process.stdin.write(f"line {i}\n")
        process.stdin.drain()
    process.stdin.write_eof()
    process.stdin.drain()
    said["echoed"], said["echoed_code"] = process.stdout.read(), process.wait()

    process = box.exec("head", "-c", "3000000", "/dev/zero", text=False)
    said["zeros"] = len(process.stdout.read())
    process.wait()
    said["signal"] = box.exec("bash", "-c", "kill -9 $$").wait()
    process = box.exec("pwd", workdir="/tmp")
    said["workdir"] = process.stdout.read()
    process.wait()
    process = box.exec("bash", "-c", "tty >/dev/null && stty size >&2", pty=True)
    said["terminal"] = process.stdout.read()
    process.wait()
    files(box, said)
    tunnel(box, said)
    said["polled"] = box.poll()

    said["listed"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id, tags=tags)]
    said["other"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id, tags={"pool": "w2"})]
    box.set_tags({"pool": "w2"})
    said["tags"] = box.get_tags()
    said["moved"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id, tags={"pool": "w2"})]

    snapshot = box.snapshot_filesystem()
    box.terminate()
    said["ended"] = box.wait(raise_on_termination=False) if box.poll() is None else box.poll()
    said["after"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id)]
    box = modal.Sandbox.create(app=app, image=snapshot)
    said["restored"] = box.filesystem.stat("/root/d/file").size
    box.terminate()
    try:
        modal.Sandbox.create(app=app, image=modal.Image.from_registry("unknown/image"))
    except Exception as e:
        said["unknown"] = f"{type(e).__name__}: {e}"
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
