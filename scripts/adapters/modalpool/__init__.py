# SPDX-License-Identifier: MIT
"""
A mounted pool of sandboxes, from Python.

    import modalpool

    with modalpool.Lease("/mnt/modalpool") as lease:
        result = lease.run("echo hi; echo oh >&2; exit 3", timeout=10)
        print(result.exit_code, result.end, result.output, result.stdout, result.stderr)

A lease holds a sandbox until release(), the end of the with block, or the end of the process, however it ends.
Jobs of a lease run side by side:

        with lease.start("exec python3 -m http.server 8000") as server:
            lease.run("curl -s http://127.0.0.1:8000/", env={"NO_PROXY": "*"}, cwd="/tmp", user="nobody")
            for text in lease.start("make test").stream():
                print(text, end="")

With asyncio, where any number of jobs may be waited for at once:

    async with modalpool.Lease("/mnt/modalpool") as lease:
        await asyncio.gather(*(lease.run_async(f"sleep 1; echo {i}") for i in range(4)))

Where the mount refuses something, modalpool.Error has the errno, and the sentence of the file `error`.
How a job ended is never an exception: see Result.

Adapters for agent frameworks are modules of this package, each described by its docstring:
mini_swe_agent, inspect_ai, deep_agents, harbor, hermes, and seed.
"""

from .errors import Error, JobError
from .job import Job, Result
from .lease import Lease
from .pool import default_mount

__all__ = ["Error", "Job", "JobError", "Lease", "Result", "default_mount"]
__version__ = "0.1.0"
