"""What Modal's own Python SDK does in an ordinary day, told as one line of JSON.

Run as a process of its own, because the SDK reads its configuration from the
environment when it is imported.
"""

import json
import os
import sys

import certifi

if "SSL_CERT_FILE" in os.environ:
    # The SDK trusts certifi's list and nothing else, so the test CA has to be
    # put in its place; the check of the certificate stays as it is.
    certifi.where = lambda: os.environ["SSL_CERT_FILE"]

import modal  # noqa: E402


def main():
    said = {}
    app = modal.App.lookup("witness", create_if_missing=True)
    image = modal.Image.from_registry("debian:bookworm").env({"COLOUR": "green"})
    tags = {"pool": "w1", "host": "here"}
    box = modal.Sandbox.create(app=app, image=image, timeout=120, tags=tags, env={"FLAVOUR": "mint"})
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
    said["polled"] = box.poll()

    said["listed"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id, tags=tags)]
    said["other"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id, tags={"pool": "w2"})]
    box.set_tags({"pool": "w2"})
    said["tags"] = box.get_tags()
    said["moved"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id, tags={"pool": "w2"})]

    box.terminate()
    said["ended"] = box.wait(raise_on_termination=False) if box.poll() is None else box.poll()
    said["after"] = [s.object_id for s in modal.Sandbox.list(app_id=app.app_id)]
    try:
        modal.Sandbox.create(app=app, image=modal.Image.from_registry("unknown/image"))
    except Exception as e:
        said["unknown"] = f"{type(e).__name__}: {e}"
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
