# SPDX-License-Identifier: MIT
"""Random operations, through the tree and by jobs in turn, beside the same ones in a directory of this machine."""

import json
import os
import random
import threading

import pytest

from test_root import files  # noqa: F401

# Also run inside, by a job: so it needs nothing but os and json.
PERFORM = '''
import json, os

def perform(root, op, *args):
    """What an operation gives: a value, or the name of an error."""
    import errno
    path = os.path.join(root, args[0])
    try:
        if op == "write":
            with open(path, "w") as f: f.write(args[1])
        elif op == "append":
            with open(path, "a") as f: f.write(args[1])
        elif op == "patch":
            with open(path, "r+") as f: f.seek(args[2]); f.write(args[1])
        elif op == "make":
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
        elif op == "read":
            with open(path) as f: return f.read()
        elif op == "truncate": os.truncate(path, args[1])
        elif op == "unlink": os.unlink(path)
        elif op == "mkdir": os.mkdir(path)
        elif op == "rmdir": os.rmdir(path)
        elif op == "rename": os.rename(path, os.path.join(root, args[1]))
        elif op == "link": os.link(path, os.path.join(root, args[1]), follow_symlinks=False)
        elif op == "symlink": os.symlink(args[1], path)
        elif op == "readlink": return os.readlink(path)
        elif op == "chmod": os.chmod(path, args[1], follow_symlinks=True)
        elif op == "utime": os.utime(path, ns=(args[1], args[1]))
        elif op == "list": return sorted(os.listdir(path))
        elif op == "stat":
            s = os.lstat(path)
            return [oct(s.st_mode), s.st_nlink if not os.path.isdir(path) or os.path.islink(path) else 0,
                    s.st_size if not os.path.isdir(path) or os.path.islink(path) else 0]
    except OSError as e:
        return errno.errorcode[e.errno]
    return None
'''
exec(PERFORM)

NAMES = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "link"]
CHANGES = ["write", "append", "patch", "make", "truncate", "unlink", "mkdir", "rmdir", "rename", "link", "symlink", "chmod", "utime"]
LOOKS = ["read", "list", "stat", "readlink"]


def draw(chance):
    op = chance.choice(CHANGES + 2 * LOOKS)
    args = [chance.choice(NAMES)]
    if op in ("write", "append", "patch"):
        args.append(chance.choice("xyz") * chance.choice([0, 1, 5, 4096, 20_000]))
    if op == "patch":
        args.append(chance.choice([0, 3, 5000]))
    if op == "truncate":
        args.append(chance.choice([0, 2, 10_000]))
    if op in ("rename", "link"):
        args.append(chance.choice(NAMES))
    if op == "symlink":
        args.append(chance.choice(["a", "b", "d", "e/a"]))
    if op == "chmod":
        args.append(chance.choice([0o600, 0o644, 0o700]))
    if op == "utime":
        args.append(chance.randrange(10**18))
    return [op, *args]


def whole(root):
    """All that is there."""
    found = {}
    for path, directories, names in os.walk(root):
        for name in directories + names:
            full = os.path.join(path, name)
            short = os.path.relpath(full, root)
            found[short] = perform(root, "stat", short)  # noqa: F821
            found[short + " reads"] = perform(root, "readlink" if os.path.islink(full) else "list" if os.path.isdir(full) else "read", short)  # noqa: F821
            if not os.path.islink(full) and not os.path.isdir(full):
                found[short + " mtime"] = os.lstat(full).st_mtime_ns if os.lstat(full).st_mtime_ns < 10**18 else None
    return found


def by_job(lease, ops):
    (lease.files / ".ops").write_text(json.dumps(ops))
    lease.submit(f"python3 - <<'END'\n{PERFORM}\nops = json.load(open('.ops')); os.unlink('.ops')\n"
                 "print(json.dumps([perform('t', *op) for op in ops]))\nEND")
    output = lease.read()
    assert lease.read("exit_code") == "0\n", output
    return json.loads(output)


@pytest.mark.limit(120)
@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.many) for seed in range(3, 40))])
def test_one_after_another(files, tmp_path, seed):  # noqa: F811
    chance = random.Random(seed)
    model, tree = tmp_path / "model", files.files / "t"
    os.umask(0o022)
    model.mkdir()
    tree.mkdir()
    for i in range(60):
        ops = [draw(chance) for _ in range(chance.randrange(1, 12))]
        expected = [perform(model, *op) for op in ops]  # noqa: F821
        if i % 3:
            got = [perform(tree, *op) for op in ops]  # noqa: F821
        else:
            got = by_job(files, ops)
        assert got == expected, [pair for pair in zip(ops, got, expected) if pair[1] != pair[2]][0]
        if i % 10 == 9:
            assert whole(tree) == whole(model)
    assert files.run("find t | wc -l")[0] == files.mount.sh(f"cd '{tmp_path}/model' && find . | wc -l").stdout


@pytest.mark.limit(120)
def test_by_four_at_once(files, tmp_path):  # noqa: F811
    """Each in a directory of its own, while jobs change others."""
    errors = []

    def work(number):
        try:
            chance = random.Random(number)
            model, tree = tmp_path / f"model{number}", files.files / f"t{number}"
            model.mkdir()
            tree.mkdir()
            for _ in range(300):
                op = draw(chance)
                expected, got = perform(model, *op), perform(tree, *op)  # noqa: F821
                assert got == expected, (op, got, expected)
            assert whole(tree) == whole(model)
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    files.run("for i in $(seq 300); do echo $i > other; mv other other2; done")
    for thread in threads:
        thread.join()
    assert errors == []


def test_two_readers_and_a_writer(files):  # noqa: F811
    """A reader sees a state that was: the length and the contents belong together."""
    path, errors, stop = files.files / "f", [], threading.Event()
    path.write_text("0" * 100)

    def read():
        while not stop.is_set():
            text = path.read_text()
            if len(set(text)) > 1 or not text:
                errors.append(text[:20])

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(100):
        (files.files / "g").write_text(str(i % 10) * (100 + i * 300))
        os.replace(files.files / "g", path)
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
