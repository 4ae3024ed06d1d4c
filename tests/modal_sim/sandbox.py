"""Sandboxes: each is a real one, of bubblewrap or of gVisor, with real processes in it.

A sandbox has the host's /usr to read, a root of its own in memory to write
(with /root and /tmp), its own processes, /proc and an empty network. It has
one uid, 0, which outside is nobody special to the rest of the system only in
so far as the simulator is: run the simulator where you would run the tests.
"""

import asyncio
import contextlib
import os
import shutil
import time

from modal_proto import api_pb2

from . import ids, settings
from .bubblewrap import Bubblewrap
from .gvisor import GVisor
from .launcher import LaunchError
from .process import Process
from .tunnels import Tunnels

Result = api_pb2.GenericResult
BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
KINDS = {"bubblewrap": Bubblewrap, "gvisor": GVisor}
LIFETIME_DEFAULT = 300
PROBE_MS = 100


class Sandbox:
    """States: starting, then running, then finished (`result` is set and stays)."""

    def __init__(self, world, definition, *, app_id, tags, version, image, env, volumes):
        self.world = world
        self.id = ids.sandbox(version)
        self.task_id = ids.task(version)
        self.version = version
        self.app_id = app_id
        self.definition = definition
        self.name = definition.name       # SandboxSetName gives one later
        self.tags = dict(tags)
        self.image = image
        self.env = {**BASE_ENV, **image.env, **env, "MODAL_SANDBOX_ID": self.id, "MODAL_TASK_ID": self.task_id}
        self.workdir = definition.workdir or image.workdir
        self.volumes = volumes
        self.mounts = {}                  # path -> image, of TaskMountDirectory
        self.created_at = world.timestamp()
        self.started_at = 0.0
        self.finished_at = 0.0
        self.result = None
        self.ready = asyncio.Event()      # running, or finished without ever running
        self.finished = asyncio.Event()
        self.probed = asyncio.Event()     # its readiness probe has succeeded, or it has ended
        self.probed_at = 0.0
        self.outbound = None              # the newest network policy set through the router
        self.tunnels = Tunnels(self, world.tunnel_context)
        self.main = None
        self.container = KINDS[settings.current.sandbox](self)
        self.execs = {}                   # exec_id -> Exec
        self.directory = os.path.join(world.directory, self.id)
        self._commands = 0
        self._timers = {}
        self._came_up = False             # everything around the entrypoint was in place
        self._told = asyncio.Event()      # _came_up is known
        self._gone = asyncio.Event()      # bubblewrap itself has been reaped
        self._lifetime = definition.timeout_secs or LIFETIME_DEFAULT
        self._idle_secs = definition.idle_timeout_secs if definition.HasField("idle_timeout_secs") else 0

    @property
    def running(self):
        return self.ready.is_set() and self.result is None

    def visible_result(self):
        """The result as the control plane shows it, which may lag behind."""
        if self.result is None or time.time() - self.finished_at < settings.current.status_lag_secs:
            return None
        return self.result

    async def start(self):
        try:
            await self.world.room(self)
            await asyncio.sleep(settings.current.start_delay_secs)
            if self.result is None:
                await self._start()
        except asyncio.CancelledError:
            pass  # the simulator ends or starts anew; World.stop has finished this sandbox
        except (LaunchError, OSError) as e:
            self.container.clear()
            self._gone.set()
            self.finish(Result.GENERIC_STATUS_INIT_FAILURE, exception=f"the sandbox could not be started: {e}")

    async def _start(self):
        os.mkdir(self.directory, 0o700)
        self.main = Process(self.id, self.directory)
        self._watch = asyncio.ensure_future(self._watch_main())
        try:
            init = await self.container.start(list(self.definition.entrypoint_args) or ["sleep", "infinity"])
            self._came_up = init is not None
        finally:
            self._told.set()
        if not self._came_up:
            await self.main.ended.wait()
        if self.result is not None or self.main.ended.is_set():
            return  # _watch_main says why
        try:
            await self.world.launcher.ready(self.id, init)
        except LaunchError:
            return  # likewise: it has ended at once
        if self.result is not None:
            # It was ended while the spawner did not know its pid 1 yet.
            self.world.launcher.end(self.id)
            return
        self.started_at = time.time()
        self._timer("lifetime", self._lifetime, Result.GENERIC_STATUS_TIMEOUT)
        self.touch()
        self.ready.set()
        self._probing = asyncio.ensure_future(self._probe())

    async def _probe(self):
        """Asks until the answer is yes; a sandbox without a probe is ready at once."""
        probe = self.definition.readiness_probe
        while self.result is None and not await self._answers(probe):
            await asyncio.sleep(max(probe.interval_ms or PROBE_MS, 1) / 1000)
        if self.result is None:
            self.probed_at = time.time()
            self.probed.set()

    async def _answers(self, probe):
        try:
            if probe.WhichOneof("probe_oneof") == "tcp_port":
                (await self.container.connect(probe.tcp_port)).close()
            elif probe.WhichOneof("probe_oneof") == "exec_command":
                return (await self.command(list(probe.exec_command.argv))).code == 0
        except (OSError, LaunchError):
            return False
        return True

    async def command(self, argv, stdin=None, keep=None):
        """Runs something inside that is no exec, to its end; its stdout goes to the file `keep`, if that is given."""
        self._commands += 1
        process = Process(f"command-{self.id}-{self._commands}", self.directory, keep_stdout=keep is not None)
        try:
            await self.container.exec(process, stdin=stdin, argv=argv, env=self.env, cwd="/")
            await process.stdin.write(0, b"", True)
            await process.ended.wait()
            if keep and process.stdout.size:
                with contextlib.suppress(FileNotFoundError):  # it has ended, and its directory is gone
                    os.rename(process.stdout.path, keep)
            process.said = process.stderr.head()
        finally:
            process.close()
        return process

    async def _watch_main(self):
        await self.main.ended.wait()
        await self._told.wait()
        self.container.clear()
        self._gone.set()
        code = self.main.code if self.main.signal is None else 128 + self.main.signal
        if not self._came_up:
            self.finish(Result.GENERIC_STATUS_INIT_FAILURE, code, "the sandbox ended before it was ready")
        elif code == 0:
            self.finish(Result.GENERIC_STATUS_SUCCESS)
        else:
            self.finish(Result.GENERIC_STATUS_FAILURE, code)

    def touch(self):
        """Something happened here; the idle clock starts anew."""
        if self._idle_secs and self.result is None:
            self._timer("idle", self._idle_secs, Result.GENERIC_STATUS_IDLE_TIMEOUT)

    def _timer(self, name, seconds, status):
        def expire():
            if name == "idle" and any(not e.process.ended.is_set() for e in self.execs.values()):
                self.touch()
            else:
                self.finish(status)
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, expire)

    def finish(self, status, exitcode=0, exception=""):
        """Ends the sandbox with everything in it. The first reason given stays."""
        if self.result is not None:
            return
        self.result = Result(status=status, exitcode=exitcode, exception=exception)
        self.finished_at = time.time()
        for timer in self._timers.values():
            timer.cancel()
        self.world.launcher.end(self.id)
        self.ready.set()
        self.finished.set()
        self.probed.set()
        self.tunnels.close()
        self.world.make_room()
        for entry in self.execs.values():
            entry.process.close()
        self.world.records.sandbox_ended(self)
        # Named volumes outlive the sandbox; its spools do not, except those of
        # the entrypoint, which Modal shows after the end.
        for name in os.listdir(self.directory) if os.path.isdir(self.directory) else ():
            if not name.startswith(self.id):
                os.unlink(os.path.join(self.directory, name))

    async def gone(self):
        """Returns when no process of the sandbox is left."""
        if self.main is not None:
            await self._gone.wait()


class World:
    """Every sandbox there is and was, by each of its names."""

    def __init__(self, directory, launcher, records, tunnel_context):
        self.directory = directory
        self.launcher = launcher
        self.records = records
        self.tunnel_context = tunnel_context  # None: encrypted tunnels are not
        self.sandboxes = {}
        self.tasks = {}
        self._last_timestamp = 0.0
        self._starting = set()
        self._waiting = {}       # sandboxes without room, first come first served -> event

    def timestamp(self):
        """Seconds, and never the same twice: SandboxList pages by it."""
        self._last_timestamp = max(time.time(), self._last_timestamp + 1e-4)
        return self._last_timestamp

    def create(self, definition, **facts):
        sandbox = Sandbox(self, definition, **facts)
        if not self.has_room():
            self._waiting[sandbox] = asyncio.Event()
        self.sandboxes[sandbox.id] = sandbox
        self.tasks[sandbox.task_id] = sandbox
        self.records.sandbox_created(sandbox)
        task = asyncio.ensure_future(sandbox.start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return sandbox

    def has_room(self):
        """Capacity for one more."""
        return not settings.current.capacity or len(self.live()) - len(self._waiting) < settings.current.capacity

    async def room(self, sandbox):
        """Returns when there is capacity for this one, or when it has ended."""
        if sandbox in self._waiting:
            await self._waiting[sandbox].wait()

    def make_room(self):
        """Capacity may have become free: those who wait longest get it."""
        for done in [s for s in self._waiting if s.result is not None]:
            self._waiting.pop(done).set()
        while self._waiting and self.has_room():
            self._waiting.pop(next(iter(self._waiting))).set()

    def live(self):
        return [s for s in self.sandboxes.values() if s.result is None]

    async def stop(self):
        for sandbox in self.live():
            sandbox.finish(Result.GENERIC_STATUS_TERMINATED)
        for task in list(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for sandbox in self.sandboxes.values():
            if sandbox.main is not None:
                sandbox.main.close()

    async def reset(self):
        """Ends and forgets every sandbox, and waits until their processes are gone."""
        await self.stop()
        await asyncio.gather(*(s.gone() for s in self.sandboxes.values()))
        for sandbox in self.sandboxes.values():
            shutil.rmtree(sandbox.directory, ignore_errors=True)
        self.sandboxes.clear()
        self.tasks.clear()
