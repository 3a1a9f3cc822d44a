"""Cuts of the writing of a run folder: at one file operation the process dies, or the disk is full."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from riskcore.record import run_folder

FILE_OPERATIONS = (
    (Path, "mkdir"), (Path, "unlink"), (Path, "rmdir"), (os, "fsync"), (os, "replace"), (run_folder, "one_writer"),
    (run_folder, "write_synced"),
)  # fmt: skip


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Cut:
    """Number of the file operation to cut at, and of those that were begun."""

    operation: int
    begun: int = 0

    @property
    def met(self) -> bool:
        return self.begun > self.operation


def cut_at(monkeypatch: pytest.MonkeyPatch, operation: int, fail: Callable[[], NoReturn]) -> Cut:
    """Fail at the file operation of this number, counted from 0; a write is half done then."""
    cut = Cut(operation)

    def wrapped(function, is_write):
        def call(*arguments, **options):
            cut.begun += 1
            if cut.begun == operation + 1:
                if is_write:
                    path, content = arguments
                    function(path, content[: len(content) // 2])
                fail()
            return function(*arguments, **options)

        return call

    for place, name in FILE_OPERATIONS:
        monkeypatch.setattr(place, name, wrapped(getattr(place, name), name == "write_synced"))
    return cut


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail


def kill() -> NoReturn:
    """End this process as the system does when memory runs out: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process does not go on")


def tree(path: Path) -> dict[str, bytes]:
    """Contents of all files of a folder."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
