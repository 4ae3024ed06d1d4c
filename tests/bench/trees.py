# SPDX-License-Identifier: MIT
"""trees.py [share]: makes in the current directory what the part files measures with, the same each time.

    tree    4,121 files in 685 directories, 24 MB, a git repository
    share   214 of them in 36, a git repository with a branch 82 files apart
    big     10,000 empty files
    small   1,000 files of 4 KiB

With share, tree is left out, and big is 2,000 files.
"""

import os
import random
import subprocess
import sys

WORDS = [f"{a}{b}" for a in ("get", "put", "test", "file", "open", "int", "struct", "return") for b in ("", "_one", "_all", "_x")]


def text(dice, size):
    lines, n = [], 0
    while n < size:
        line = " ".join(dice.choices(WORDS, k=8)) + "\n"
        lines.append(line)
        n += len(line)
    return "".join(lines)[:size]


def make_tree(top, n_dirs, n_files, mean):
    """Directories of up to four levels, files of very different sizes."""
    dice = random.Random(15)
    dirs = [top]
    while len(dirs) < n_dirs:
        above = dice.choice(dirs[:1 + len(dirs) // 2])
        if above.count("/") < 4:
            dirs.append(f"{above}/d{len(dirs):03}")
    for path in dirs:
        os.makedirs(path)
    for i in range(n_files):
        with open(f"{dirs[i % len(dirs)]}/f{i:04}.c", "w") as file:
            file.write(text(dice, min(int(dice.expovariate(1 / mean)), 16 * mean)))


def git(path, *words):
    subprocess.run(["git", "-C", path, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0", *words],
                   check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, HOME="/nonexistent"))


def make_repository(path):
    git(path, "init", "-q", "-b", "main")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "all")


def make_branch(path, n):
    files = sorted(os.path.join(at, name) for at, _, names in os.walk(path) for name in names if name.endswith(".c"))
    git(path, "checkout", "-q", "-b", "other")
    for file in files[:n]:
        with open(file, "a") as out:
            out.write("changed\n")
    git(path, "commit", "-q", "-a", "-m", "changed")
    git(path, "checkout", "-q", "main")


def make_files(path, n, data):
    os.mkdir(path)
    for i in range(n):
        with open(f"{path}/f{i:05}", "w") as file:
            file.write(data)


def main(*words):
    if "share" not in words:
        make_tree("tree", 685, 4121, 5800)
        make_repository("tree")
    make_tree("share", 36, 214, 5800)
    make_repository("share")
    make_branch("share", 82)
    make_files("big", 2000 if "share" in words else 10000, "")
    make_files("small", 1000, text(random.Random(4), 4096))


if __name__ == "__main__":
    main(*sys.argv[1:])
