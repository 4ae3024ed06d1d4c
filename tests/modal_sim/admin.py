"""The admin endpoint: plain HTTP and JSON on loopback, for tests and for the curious."""

import json
import os
import time

from aiohttp import web
from google.protobuf.json_format import MessageToDict
from modal_proto import api_pb2

from . import settings
from .dispatch import die
from .launcher import LaunchError
from .sandbox import Result
from .snapshots import Snapshot
from .tokens import KINDS


class Admin:
    def __init__(self, simulator):
        self.sim = simulator

    async def start(self):
        app = web.Application(middlewares=[self.explain], client_max_size=16 << 20)
        app.add_routes([
            web.get("/stats", self.stats),
            web.get("/trace", self.trace),
            web.get("/sandboxes", self.sandboxes),
            web.get("/processes", self.processes),
            web.get("/snapshots", self.snapshots),
            web.get("/faults", self.get_faults),
            web.post("/faults", self.set_faults),
            web.get("/config", self.get_config),
            web.post("/config", self.set_config),
            web.post("/reset", self.reset),
            web.post("/secret", self.secret),
            web.post("/volume", self.volume),
            web.post("/sandbox/{id}/kill", self.kill),
            web.post("/sandbox/{id}/run", self.run),
            web.post("/sandbox/{id}/age", self.age),
            web.post("/router/move", self.move),
            web.post("/connections/reset", self.reset_connections),
            web.post("/jwt/expire", self.expire),
        ])
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, shutdown_timeout=0.1)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self):
        await self.runner.cleanup()

    @web.middleware
    async def explain(self, request, handler):
        try:
            return await handler(request)
        except (ValueError, TypeError) as e:
            return web.json_response({"error": str(e)}, status=400)

    async def body(self, request):
        return await request.json() if request.can_read_body else {}

    async def stats(self, request):
        return web.json_response(self.sim.records.stats())

    async def trace(self, request):
        """The newest calls one by one; ?method=, ?sandbox= and ?exec= narrow them."""
        wanted = {k: v for k, v in request.query.items() if k in ("method", "sandbox", "exec", "status")}
        return web.json_response([c for c in self.sim.records.trace if all(c[k] == v for k, v in wanted.items())])

    async def sandboxes(self, request):
        """Every sandbox since the last reset, with what was asked for at its creation; ?TAG=VALUE narrows them."""
        def describe(s):
            return {
                "id": s.id, "task_id": s.task_id, "version": s.version, "name": s.name, "tags": s.tags, "app_id": s.app_id,
                "running": s.running, "result": s.result and Result.GenericStatus.Name(s.result.status),
                "created_at": s.created_at, "execs": list(s.execs),
                "definition": MessageToDict(s.definition, preserving_proto_field_name=True),
                "outbound": s.outbound and MessageToDict(s.outbound, preserving_proto_field_name=True)}
        wanted = request.query.items()
        return web.json_response([describe(s) for s in self.sim.world.sandboxes.values() if wanted <= s.tags.items()])

    async def snapshots(self, request):
        """Every image that is a snapshot: its sandbox, the id that it was asked for by, and when it ends."""
        ids = {task.result(): key for key, task in self.sim.router.snapshots.items()
               if task.done() and not task.cancelled() and not task.exception()}
        of_task = {s.task_id: s.id for s in self.sim.world.sandboxes.values()}
        found = [image for image in self.sim.objects.images.values() if isinstance(image, Snapshot)]
        return web.json_response([{"id": image.id, "sandbox": of_task.get(ids.get(image.id, (None, None))[0]),
                                   "snapshot_id": ids.get(image.id, (None, None))[1], "ttl": image.ttl} for image in found])

    async def processes(self, request):
        """What runs in the sandboxes, as [sandbox, state, command line]."""
        found = []
        for s in [s for s in self.sim.world.live() if s.running]:
            path = os.path.join(self.sim.world.directory, "processes")
            try:
                await s.command(["ps", "ax", "-o", "stat=,args="], keep=path)
            except LaunchError:
                continue  # it has ended
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    found += [[s.id, *line.split(None, 1)] for line in f]
                os.unlink(path)
        return web.json_response(found)

    async def get_faults(self, request):
        return web.json_response({"seed": self.sim.plan.seed, "rules": [vars(r) for r in self.sim.plan.rules]})

    async def set_faults(self, request):
        self.sim.plan.set(await self.body(request))
        return web.json_response({"rules": len(self.sim.plan.rules)})

    async def get_config(self, request):
        return web.json_response(dict(vars(settings.current), token_secret="***"))

    async def set_config(self, request):
        settings.current.update(await self.body(request))
        self.sim.world.make_room()
        return web.json_response({})

    async def reset(self, request):
        """Ends all sandboxes and clears faults and records; {"keep": ["records", …]} spares some."""
        keep = (await self.body(request)).get("keep", [])
        if "faults" not in keep:
            self.sim.plan.set({})
        if "sandboxes" not in keep:
            await self.sim.world.reset()
            self.sim.control.created.clear()
            self.sim.router.snapshots.clear()
            self.sim.objects.clear()
        if "records" not in keep:
            self.sim.records.clear()
            for sandbox in self.sim.world.live():
                self.sim.records.adopt(sandbox)
        return web.json_response({})

    async def secret(self, request):
        """Makes a named secret, as a user would on Modal's site: {"name": …, "env": {…}}."""
        values = await self.body(request)
        secret_id = self.sim.objects.secret(api_pb2.SecretGetOrCreateRequest(
            deployment_name=values["name"], env_dict=values.get("env", {}),
            object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS))
        return web.json_response({"secret_id": secret_id})

    async def volume(self, request):
        """Makes a named volume, likewise: {"name": …}."""
        body = await self.body(request)
        volume_id = self.sim.objects.volume(api_pb2.VolumeGetOrCreateRequest(
            deployment_name=body["name"], object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING))
        return web.json_response({"volume_id": volume_id})

    def find(self, request):
        sandbox = self.sim.world.sandboxes.get(request.match_info["id"])
        if sandbox is None:
            raise web.HTTPNotFound(text=json.dumps({"error": "no such sandbox"}), content_type="application/json")
        return sandbox

    async def kill(self, request):
        """An accident: the sandbox dies with everything in it, and nobody is told.

        {"status": 10, "exitcode": 137, "exception": "…"} say how it ends.
        """
        sandbox = self.find(request)
        die(sandbox, **await self.body(request))
        await sandbox.gone()
        return web.json_response({"result": Result.GenericStatus.Name(sandbox.result.status)})

    async def run(self, request):
        """Runs {"argv": […]} in the sandbox to its end, as if the image itself had started it: it is no exec."""
        process = await self.find(request).command((await self.body(request))["argv"])
        return web.json_response({"code": process.code})

    async def age(self, request):
        """The sandbox says that it was created so many seconds ago; nothing else about it changes."""
        sandbox = self.find(request)
        sandbox.created_at = time.time() - float((await self.body(request))["seconds"])
        return web.json_response({"created_at": sandbox.created_at})

    async def move(self, request):
        """The router gets a new port; the old one resets what it has and refuses the rest."""
        old = await self.sim.move_router()
        return web.json_response({"old_url": old, "url": self.sim.router_url(False)})

    async def reset_connections(self, request):
        """Resets every connection of {"listener": "control" | "router"}, or of both."""
        wanted = (await self.body(request)).get("listener")
        reset = 0
        for listener in (self.sim.front, self.sim.router_front):
            if wanted in (None, listener.name):
                reset += len(listener.connections)
                listener.reset_all()
        return web.json_response({"reset": reset})

    async def expire(self, request):
        """All tokens of {"of": "router"} (or auth, or sandbox) given out so far count as expired.

        {"cut": true} also ends the router's open streams.
        """
        body = await self.body(request)
        kind = body.get("of", "router")
        if kind not in KINDS:
            raise ValueError(f"of is one of {', '.join(KINDS)}, not {kind!r}")
        self.sim.tokens.expire_all(kind)
        if body.get("cut"):
            self.sim.router.cut_before = time.time()
            for sandbox in self.sim.world.live():
                for entry in sandbox.execs.values():
                    for spool in (entry.process.stdout, entry.process.stderr):
                        if spool:
                            spool.wake()
        return web.json_response({})
