# SPDX-License-Identifier: MIT
"""
mini-swe-agent in sandboxes of a pool. Each environment is a lease; each action is a job.

    mini --environment-class modalpool.mini_swe_agent.PoolEnvironment

or in a configuration:

    environment:
      environment_class: modalpool.mini_swe_agent.PoolEnvironment
      mount: /mnt/modalpool        # default: $MODALPOOL_MOUNT, else /mnt/modalpool
      image: python:3.12-slim      # default: that of the mount

cwd, env and timeout are as in mini-swe-agent's own environments. Without cwd, actions run in the workdir of the lease.
An action that is out of time, killed or lost has returncode -1, what it has printed so far, and the reason in
exception_info. The next action after the sandbox is lost raises modalpool.Error, which ends the run. An interrupt
kills the action. The lease ends with cleanup(), with the object, and with the process.

For an image that is not that of the mount a pool beside it is made and used. Local sandboxes have no image: an error.
"""

from __future__ import annotations

from typing import Any

from minisweagent.exceptions import Submitted
from minisweagent.utils.serialize import recursive_merge
from pydantic import BaseModel

from . import Lease, Result, default_mount


class PoolEnvironmentConfig(BaseModel):
    mount: str = ""
    image: str = ""
    cwd: str = ""
    env: dict[str, str] = {}
    timeout: int = 30


class PoolEnvironment:
    def __init__(self, *, config_class: type = PoolEnvironmentConfig, **kwargs: Any):
        self.config = config_class(**kwargs)
        self.lease = Lease(self.config.mount or default_mount(), env=self.config.env, image=self.config.image or None)
        self._uname: dict[str, str] = {}

    def execute(self, action: dict[str, Any], cwd: str = "", *, timeout: int | None = None) -> dict[str, Any]:
        result = self.lease.run(action.get("command", ""), cwd=cwd or self.config.cwd or None,
                                timeout=timeout or self.config.timeout)
        output = _output(result)
        _check_finished(output)
        return output

    def get_template_vars(self, **kwargs: Any) -> dict[str, Any]:
        if not self._uname:
            names = ("system", "node", "release", "version", "machine")
            lines = self.lease.run("for flag in s n r v m; do uname -$flag; done").check().output.splitlines()
            self._uname = dict(zip(names, lines))
        return recursive_merge(self.config.model_dump(), self._uname, kwargs)

    def serialize(self) -> dict[str, Any]:
        name = f"{type(self).__module__}.{type(self).__name__}"
        return {"info": {"config": {"environment": self.config.model_dump(mode="json"), "environment_type": name}}}

    def cleanup(self) -> None:
        self.lease.release()


def _output(result: Result) -> dict[str, Any]:
    if result.error is None:
        return {"output": result.output, "returncode": result.exit_code, "exception_info": ""}
    return {"output": result.output, "returncode": -1,
            "exception_info": f"An error occurred while executing the command: {result.error}",
            "extra": {"exception_type": result.end, "exception": result.error}}


def _check_finished(output: dict[str, Any]) -> None:
    """The agent submits by printing a line that mini-swe-agent defines, and then its submission."""
    first, _, submission = output["output"].lstrip().partition("\n")
    if first.strip() == "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT" and output["returncode"] == 0:
        raise Submitted({"role": "exit", "content": submission, "extra": {"exit_status": "Submitted", "submission": submission}})
