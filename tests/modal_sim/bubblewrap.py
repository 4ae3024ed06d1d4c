"""Sandboxes made by bubblewrap: namespaces of this machine's kernel.

The spawner joins them to start a process there, so there is no agent inside
that a job could kill.
"""

import json
import os

from . import reader, root, settings


def arguments(workdir, volumes):
    argv = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
            "--die-with-parent", "--hostname", "modal", "--info-fd", "4",
            "--size", str(settings.current.disk_bytes), "--tmpfs", "/", "--ro-bind", "/usr", "/usr"]
    for name in root.SYSTEM_LINKS:
        if os.path.islink("/" + name):
            argv += ["--symlink", os.readlink("/" + name), "/" + name]
        elif os.path.isdir("/" + name):
            argv += ["--ro-bind", "/" + name, "/" + name]
    for path in root.SYSTEM_FILES:
        if os.path.exists(path):
            argv += ["--ro-bind", path, path]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    if settings.current.fs_tools:
        argv += ["--ro-bind", root.FS_TOOLS, root.FS_TOOLS_PATH]
    for path, mode in root.DIRECTORIES:
        argv += ["--perms", f"{mode:04o}", "--dir", path]
    for mount_path, directory, read_only in volumes:
        argv += ["--ro-bind" if read_only else "--bind", directory, mount_path]
    if root.own_workdir(workdir):
        argv += ["--dir", workdir]
    return argv + ["--chdir", workdir, "--"]


class Bubblewrap:
    """What a sandbox's processes run in."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.launcher = sandbox.world.launcher

    async def start(self, argv):
        """Starts the entrypoint. The process with which everything inside ends; None if it ended before it was ready."""
        sandbox = self.sandbox
        info_r, info_w = os.pipe2(os.O_CLOEXEC)
        ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
        theirs = [ready_w, info_w]
        try:
            try:
                if sandbox.image.archive:
                    theirs.append(sandbox.image.open())
                await sandbox.main.start(
                    self.launcher, "start", theirs, env=sandbox.env,
                    argv=arguments(sandbox.workdir, sandbox.volumes) + root.entrypoint(argv, sandbox.image.archive, root.BECOME_SCRIPT))
            finally:
                for fd in theirs:
                    os.close(fd)
            info = await reader.to_end(info_r)
            return json.loads(info)["child-pid"] if await reader.to_end(ready_r) else None
        finally:
            os.close(info_r)
            os.close(ready_r)

    def clear(self):
        """Nothing of it runs any more, and nothing of it is left."""

    async def exec(self, process, *, stdin=None, terminal=None, **command):
        """Starts a process: `argv`, `env`, `cwd`; `terminal` is its (rows, columns). LaunchError says why it could not."""
        command["box"] = self.sandbox.id
        process.kill = lambda number: self.launcher.kill(process.key, number)
        if terminal:
            await process.start_on_terminal(self.launcher, *terminal, **command)
        else:
            await process.start(self.launcher, "exec", stdin=stdin, **command)

    async def connect(self, port):
        """A socket that is connected to a port inside; OSError says why there is none."""
        return await self.launcher.connect(self.sandbox.id, port)
