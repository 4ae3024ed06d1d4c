"""python -m modal_sim: start a simulator, say where it is in one line of JSON, and serve until told to stop."""

import argparse
import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile

import grpc
from modal_proto import api_pb2, task_command_router_pb2

from . import gvisor, settings, tls
from .admin import Admin
from .records import Records
from .control import Control
from .dispatch import Dispatcher
from .faults import Plan
from .launcher import Launcher
from .objects import Objects
from .proxy import Listener
from .router import MESSAGE_MAX, Router
from .sandbox import KINDS, World
from .tokens import Tokens

CONTROL_MESSAGE_MAX = 100 << 20
log = logging.getLogger("sim")


def options(max_message):
    return [
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", max_message),
        # The SDKs send keepalive pings every 30 s, also when nothing is under way.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.http2.max_ping_strikes", 0),
    ]


class Simulator:
    async def start(self, directory, lost):
        self.records = Records()
        self.plan = Plan(self.records)
        self.tokens = Tokens()
        self.launcher = Launcher(directory, lost)
        await self.launcher.start()
        self.context, tunnel_context, self.ca = tls.make(directory) if settings.current.tls else (None, None, None)
        self.world = World(directory, self.launcher, self.records, tunnel_context)
        self.objects = Objects(directory)
        self.router = Router(self.world, self.objects, self.records, self.tokens)
        self.control = Control(self.world, self.objects, self.records, self.plan, self.tokens, self.router, self.router_url)

        control_socket, self.router_socket = (os.path.join(directory, n) for n in ("control.sock", "router.sock"))
        self.servers = [
            await self._serve(api_pb2.DESCRIPTOR.services_by_name["ModalClient"], self.control,
                              control_socket, CONTROL_MESSAGE_MAX),
            await self._serve(task_command_router_pb2.DESCRIPTOR.services_by_name["TaskCommandRouter"], self.router,
                              self.router_socket, MESSAGE_MAX),
        ]
        self.front = Listener("control", control_socket, self.records, self.plan, self.context, self.context is None)
        await self.front.start()
        self.router_front = await self._router_front()
        self.admin = Admin(self)
        await self.admin.start()

    async def _serve(self, descriptor, servicer, path, max_message):
        server = grpc.aio.server(options=options(max_message))
        server.add_generic_rpc_handlers(
            (Dispatcher(descriptor, servicer, self.records, self.plan, self.world, log),))
        server.add_insecure_port("unix:" + path)
        await server.start()
        return server

    async def _router_front(self):
        front = Listener("router", self.router_socket, self.records, self.plan, self.context, True)
        await front.start()
        return front

    def url(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.front.port}"

    def router_url(self, https_only):
        scheme = settings.current.router_scheme
        if scheme == "auto":
            scheme = "https" if self.context or https_only else "http"
        return f"{scheme}://127.0.0.1:{self.router_front.port}"

    async def move_router(self):
        old, front = self.router_url(False), self.router_front
        self.router_front = await self._router_front()
        front.stop()
        return old

    def ready(self):
        return {
            "server_url": self.url(), "control_url": f"http://127.0.0.1:{self.admin.port}", "ca": self.ca,
            "router_url": self.router_url(False), "token_id": settings.current.token_id,
            "token_secret": settings.current.token_secret, "pid": os.getpid()}

    async def stop(self):
        self.front.stop()
        self.router_front.stop()
        await self.admin.stop()
        await self.world.stop()
        await asyncio.gather(*(server.stop(None) for server in self.servers))
        await self.launcher.stop()


def arguments():
    parser = argparse.ArgumentParser(prog="sim", description="A simulator of Modal on loopback.")
    parser.add_argument("--plain", action="store_true", help="HTTP/2 without TLS")
    parser.add_argument("--sandbox", choices=sorted(KINDS),
                        help="what makes the sandboxes (bubblewrap); gvisor has Modal's kernel; --set sandbox=KIND")
    parser.add_argument("--capacity", type=int, metavar="N", help="sandboxes that have room at one time; --set capacity=N")
    parser.add_argument("--exec-delay", type=float, metavar="SECONDS",
                        help="before each exec is started (Modal takes 0.2); --set exec_delay_secs=SECONDS")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting, as in POST /config")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--faults", metavar="FILE", help="JSON as in POST /faults")
    parser.add_argument("--while-stdin", action="store_true", help="stop when standard input ends")
    parser.add_argument("--exports", action="store_true", help="announce with lines for a shell instead of JSON")
    parser.add_argument("--directory", help="where the temporary directory is made")
    parser.add_argument("-v", "--verbose", action="store_true")
    return parser.parse_args()


def configure(args):
    values = {}
    for item in args.set:
        name, _, text = item.partition("=")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    if args.capacity is not None:
        values["capacity"] = args.capacity
    if args.exec_delay is not None:
        values["exec_delay_secs"] = args.exec_delay
    if args.sandbox is not None:
        values["sandbox"] = args.sandbox
    settings.current.update(values)
    if settings.current.sandbox == "gvisor":
        gvisor.runsc()
    settings.current.tls = not args.plain


def announce(ready, exports):
    if not exports:
        print(json.dumps(ready), flush=True)
        return
    lines = [f"export MODAL_SERVER_URL={ready['server_url']}",
             f"export MODAL_TOKEN_ID={ready['token_id']}",
             f"export MODAL_TOKEN_SECRET={ready['token_secret']}"]
    if ready["ca"]:
        lines.append(f"export SSL_CERT_FILE={ready['ca']}")
    lines += ["", "# Paste the lines above into another shell, then try it:",
              "#   modalpool modal /mnt/modalpool && mkdir /mnt/modalpool/t1",
              "#   echo 'uname -a' > /mnt/modalpool/t1/cmd; cat /mnt/modalpool/t1/output",
              f"#   curl -s {ready['control_url']}/stats"]
    print("\n".join(lines), flush=True)


async def serve(args):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if args.while_stdin:
        loop.add_reader(0, lambda: os.read(0, 4096) or stop.set())

    def lost():
        log.error("the process that starts the sandboxes is gone; leaving")
        stop.set()
    directory = tempfile.mkdtemp(prefix="modalsim-", dir=args.directory)
    simulator = Simulator()
    try:
        try:
            await simulator.start(directory, lost)
        except BaseException:
            await simulator.launcher.stop()
            raise
        await run(simulator, args, stop)
    finally:
        # The spawner has done that, unless it was killed.
        shutil.rmtree(directory, ignore_errors=True)


async def run(simulator, args, stop):
    try:
        document = {"seed": args.seed}
        if args.faults:
            with open(args.faults) as f:
                document.update(json.load(f))
        simulator.plan.set(document)
        announce(simulator.ready(), args.exports)
        await stop.wait()
    finally:
        if args.while_stdin:
            asyncio.get_running_loop().remove_reader(0)
        await simulator.stop()


def main():
    args = arguments()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO if args.verbose else logging.WARNING,
                        format="sim: %(message)s")
    try:
        configure(args)
    except (ValueError, RuntimeError) as e:
        sys.exit(f"sim: {e}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve(args))


if __name__ == "__main__":
    main()
