"""Files that are whole after a crash, and folders with one writer."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..boundary import RiskDataError

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_held = threading.local()


@contextmanager
def one_writer(folder: Path, lock_file: str) -> Iterator[None]:
    """Hold the lock of a folder; it goes with the process. A thread that holds it already may take it again.

    Raises
    ------
    RiskDataError
        Another process or thread holds it.
    """
    held: set[str] = vars(_held).setdefault("folders", set())
    name = os.path.realpath(folder)
    if name in held:
        yield
        return
    with (folder / lock_file).open("ab") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):  # of flock, and of msvcrt
            rule = "another process is writing to it: wait until it ends, or name another folder"
            raise RiskDataError("run", None, rule, value=str(folder)) from None
        held.add(name)
        try:
            yield
        finally:
            held.remove(name)


def write_synced(path: Path, content: bytes | memoryview) -> None:
    """Write a file and have the disk keep it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the disk keep the names in a folder."""
    if sys.platform == "win32":  # it cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
