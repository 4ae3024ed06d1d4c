# SPDX-License-Identifier: MIT
"""What goes wrong, with the words of the mount."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Result


class Error(OSError):
    """The mount refused something: errno, and in strerror the sentence that the file `error` has."""


class JobError(Exception):
    """What Result.check() raises for a job that did not end with exit code 0."""

    def __init__(self, result: Result):
        super().__init__(result.error or f"exit code {result.exit_code}: {result.output[-2000:]}")
        self.result = result


@contextlib.contextmanager
def explained(directory: str) -> Iterator[None]:
    """Let an OSError become an Error that says what the file `error` of this job or lease says."""
    try:
        yield
    except Error:
        raise
    except OSError as error:
        jobs = os.path.dirname(directory)
        sentence = _sentence(directory)
        if not sentence and os.path.basename(jobs) == "jobs":
            sentence = _sentence(os.path.dirname(jobs))  # a write that is refused is the lease's error
        raise Error(error.errno, sentence or error.strerror or str(error), error.filename or directory) from error


def _sentence(directory: str) -> str:
    with contextlib.suppress(OSError), open(os.path.join(directory, "error"), "rb", buffering=0) as file:
        text = file.readall().decode("utf-8", "replace").strip()
        return "" if text == "ok" else text
    return ""
