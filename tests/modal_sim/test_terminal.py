"""Execs on a terminal, and the stream that carries their input."""

import hashlib
import uuid

import pytest
from modal_proto import api_pb2, task_command_router_pb2 as pb

from .client import STDERR, Client
from .simulator import Simulator


def pty(rows=24, cols=80, **fields):
    return api_pb2.PTYInfo(enabled=True, winsz_rows=rows, winsz_cols=cols, env_term="xterm-256color",
                           env_colorterm="truecolor", pty_type=api_pb2.PTYInfo.PTY_TYPE_SHELL, **fields)


def test_a_terminal_of_the_sandbox(box):
    code, out, err = box.run("sh", "-c", "tty; stty size; echo err >&2; echo $TERM $COLORTERM; exit 3", pty_info=pty(33, 111))
    assert (code, out, err) == (3, b"/dev/pts/0\r\n33 111\r\nerr\r\nxterm-256color truecolor\r\n", b"")


def test_its_input_and_its_end(box):
    exec_id = box.start("cat", pty_info=pty())
    box.write(exec_id, 0, b"hello\n")
    box.write(exec_id, 0, b"hello\n", eof=True)
    assert box.wait(exec_id) == 0
    assert box.read(exec_id) == b"hello\r\nhello\r\n"  # as typed, and as read
    assert box.read(exec_id, STDERR) == b""


def test_signals_and_resizing(box):
    exec_id = box.start("sh", "-c", "trap 'stty size' WINCH; trap 'echo int; exit 4' INT; tty; while :; do read x || :; done",
                        pty_info=pty())
    stream = box.call("TaskExecStdioRead", exec_id=exec_id)
    tty = next(stream).data.decode().strip()
    # There is no call for it; a second exec does it.
    assert box.run("sh", "-c", f"stty rows 40 cols 99 <{tty}")[0] == 0
    shown = b""
    while not shown.endswith(b"40 99\r\n"):  # stty sets rows and columns one after the other
        shown += next(stream).data
    box.write(exec_id, 0, b"\x03")
    assert box.wait(exec_id) == 4
    assert box.read(exec_id).endswith(b"int\r\n")


def test_much_output(box):
    exec_id = box.start("sh", "-c", "seq 200000", pty_info=pty())
    assert box.wait(exec_id) == 0
    assert box.read(exec_id).split() == [b"%d" % i for i in range(1, 200001)]


def stream(box, exec_id, *parts, offset=0, end=True):
    def messages():
        yield pb.TaskExecStdinWriteStreamRequest(start=pb.TaskExecStdinWriteStreamStart(
            task_id=box.task_id, exec_id=exec_id, offset=offset))
        for part in parts:
            yield pb.TaskExecStdinWriteStreamRequest(data=part)
        if end:
            yield pb.TaskExecStdinWriteStreamRequest(end=pb.TaskExecStdinWriteStreamEnd())
    return box.stub.TaskExecStdinWriteStream(messages(), timeout=20, metadata=[("authorization", f"Bearer {box.jwt}")])


def test_stdin_by_stream(box, refused):
    exec_id = box.start("sha256sum")
    parts = [bytes([i]) * (256 << 10) for i in range(12)]
    stream(box, exec_id, *parts[:5], end=False)  # breaks: stdin stays open
    status = box.call("TaskExecStdinStatus", exec_id=exec_id)
    assert (status.num_bytes_written, status.closed) == (5 * len(parts[0]), False)
    with refused("FAILED_PRECONDITION"):
        stream(box, exec_id, b"x", offset=status.num_bytes_written + 1)
    stream(box, exec_id, *parts[5:], offset=status.num_bytes_written)
    assert box.call("TaskExecStdinStatus", exec_id=exec_id).closed
    assert box.read(exec_id).split()[0].decode() == hashlib.sha256(b"".join(parts)).hexdigest()


def test_stdin_stream_to_one_that_does_not_read(box, refused):
    exec_id = box.start("true")
    box.wait(exec_id)
    with refused("FAILED_PRECONDITION"):
        stream(box, exec_id, b"x")
    with refused("NOT_FOUND"):
        stream(box, str(uuid.uuid4()), b"x")


def test_exec_delay(tmp_path):
    """As a setting and as an option."""
    as_setting, as_option = Simulator(directory=tmp_path, exec_delay_secs=0.5), Simulator(directory=tmp_path)
    as_option._arguments += ["--exec-delay", "0.5"]
    for sim in as_setting, as_option:
        with sim, Client(sim) as client, client.create() as box:
            box.run("true")
            (ms,) = [c["ms"] for c in sim.trace(method="TaskExecStart")]
            assert ms >= 500
            assert sim.ask("/config")["exec_delay_secs"] == 0.5
