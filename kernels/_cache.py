"""Compiled kernels kept on disk from one process to the next (docs/decisions/0015-compile-cache.md).

Numba's own cache looks at the file of the entry function alone and gives stale code when a callee elsewhere has
changed. Here the folder is named after the content of all kernel sources and of all else that compiled code depends
on, and each compiled signature is one file that carries its digest: nothing is looked up in an index that two
processes could write at once, and no damaged file is read any further.
"""

import contextlib
import hashlib
import importlib
import os
import pickle
import re
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import serialize, sigutils
from numba.core.compiler import CompileResult

_FOLDER = Path(__file__).parent
_DIGEST = hashlib.sha256().digest_size
_KEPT_FOLDERS, _KEPT_SECONDS = 16, 30 * 86_400
_OFF = {"0", "off", "no", "false"}

_PLAIN = (bool, int, float, str, bytes, tuple, np.generic)

# Settings of Numba that change the code it makes; the processor is in the magic tuple of its codegen.
_SETTINGS = (
    "BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT", "DISABLE_INTEL_SVML", "USING_SVML",
    "ENABLE_PROFILING", "FORCE_DEBUG_INFO",
)  # fmt: skip


def _digest_of_sources() -> bytes:
    """Digest of all kernel sources; empty where they are not files, as in a zip archive."""
    digest = hashlib.sha256()
    paths = sorted(_FOLDER.glob("*.py"))
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    return digest.digest() if paths else b""


def _digest_of_code() -> bytes:
    """Digest of the functions and constants of all kernel modules as they are in this process.

    Numba compiles both in. A patched constant or an import hook changes them and no file, and Python itself may run a
    source's older bytecode when two edits fall into one second.
    """
    digest = hashlib.sha256()
    modules = [importlib.import_module(f"{__package__}.{path.stem}") for path in sorted(_FOLDER.glob("[!_]*.py"))]
    # and the operations of the sweep that the kernels are compiled with
    lanes = [sys.modules.get(f"{__package__}.{name}") for name in ("_simd", "_scalar", "_columns")]
    for module in filter(None, [*modules, *lanes]):
        stem = module.__name__.rpartition(".")[2]
        for name, value in sorted(vars(module).items()):
            if not name.startswith("__"):
                digest.update(f"{stem}.{name} = {_description(value)};".encode())
    return digest.digest()


def _description(value: object) -> object:
    """Part of a value that can be compiled in, described alike in every process."""
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, [_description(constant) for constant in value.co_consts]
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    if isinstance(value, (*_PLAIN, type(None), type(...), slice, complex)):
        return repr(value)
    for wrapped in ("py_func", "_defn", "__code__"):  # a kernel, an intrinsic, a function
        if hasattr(value, wrapped):
            return _description(getattr(value, wrapped))
    return type(value).__qualname__


# Computed as the kernels are imported: this process does not run a source that is edited later.
_SOURCES = _digest_of_sources()


def user_folder() -> Path:
    """Folder of the caches of all versions: RISKCORE_CACHE_DIR, or the platform's place for a user's caches."""
    if folder := os.environ.get("RISKCORE_CACHE_DIR"):
        return Path(folder)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "riskcore" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "riskcore"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "riskcore"


def _require_own(folder: Path) -> None:
    """Refuse a folder that somebody else could put code into."""
    if sys.platform == "win32":
        return
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise PermissionError(f"others may write into {folder} (chmod go-w {folder})")


def _prune(folder: Path) -> None:
    """Remove the folders of other versions that have not been used for long, or that are many."""
    now = time.time()
    others = [p for p in folder.parent.iterdir() if re.fullmatch("[0-9a-f]{64}", p.name) and p != folder]
    ages = sorted((now - p.stat().st_mtime, p) for p in others)
    for number, (age, path) in enumerate(ages):
        if age > _KEPT_SECONDS or number >= _KEPT_FOLDERS - 1:
            shutil.rmtree(path, ignore_errors=True)


class _Store:
    """Folder of this process's compiled kernels. Numba's compiler lock lets one thread at a time in."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._opened, self._warned = False, False
        self._code = b""
        self.writes = True

    def open(self, magic: tuple[object, ...]) -> Path | None:
        """Folder of this version, made where there is none; None to do without."""
        if not self._opened:
            self._opened = True
            wanted = os.environ.get("RISKCORE_CACHE", "").lower() not in _OFF
            if wanted and _SOURCES and _digest_of_sources() == _SOURCES:
                try:
                    self._code = _digest_of_code()
                    self.folder = self._made(magic)
                except Exception as error:
                    self.warn(f"riskcore does not keep its compiled kernels: {error}")
        return self.folder

    def is_current(self) -> bool:
        """Whether sources and code still have the digest in the folder's name."""
        return _digest_of_sources() == _SOURCES and _digest_of_code() == self._code

    def _made(self, magic: tuple[object, ...]) -> Path:
        settings = [(name, str(getattr(numba.config, name, None))) for name in _SETTINGS]
        versions = numba.__version__, llvmlite.__version__, np.__version__, sys.version, sys.implementation.cache_tag
        key = hashlib.sha256(_SOURCES + self._code + repr((versions, magic, settings)).encode()).hexdigest()
        folder = user_folder() / key
        new = not folder.is_dir()
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(path)
        with contextlib.suppress(OSError):
            if new:
                _prune(folder)
            else:
                os.utime(folder)  # which folders were used last
        return folder

    def warn(self, fault: str) -> None:
        """Report a fault of the cache once; kernels that are not in it are compiled."""
        if not self._warned:
            self._warned = True
            ways = "RISKCORE_CACHE_DIR names another folder, RISKCORE_CACHE=0 switches the cache off"
            warnings.warn(f"{fault} ({ways})", RuntimeWarning, stacklevel=2)


_STORE = _Store()


def folder_in_use() -> Path | None:
    """Folder that this process's compiled kernels go to; None before the first is asked for, or where none are kept."""
    return _STORE.folder if _STORE.writes else None


def _are_own(arguments: tuple[Any, ...]) -> bool:
    """Whether no argument is a named tuple of another package: its margin model's sources are not in the digest."""
    classes = (getattr(argument, "instance_class", None) for argument in arguments)
    return all(c is None or c.__module__.startswith(f"{__package__}.") for c in classes)


class KernelCache:
    """Cache of one kernel, in the place of Numba's own in its dispatcher."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._code = ""
        if not function.__module__.startswith(f"{__package__}."):  # the folder's digest does not have its code
            self._code = repr(_description(function))

    @property
    def cache_path(self) -> str | None:
        """Folder of the files, for Numba's statistics."""
        return None if _STORE.folder is None else str(_STORE.folder)

    def _path(self, folder: Path, arguments: tuple[Any, ...]) -> Path:
        return folder / f"{self._name}-{hashlib.sha256((self._code + repr(arguments)).encode()).hexdigest()[:32]}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Give the compiled kernel of a signature, or None to have it compiled."""
        target_context.refresh()
        folder = _STORE.open(target_context.codegen().magic_tuple())
        arguments, returned = sigutils.normalize_signature(sig)
        if folder is None or returned is not None or not _are_own(arguments):
            return None
        path = self._path(folder, arguments)
        try:
            content = memoryview(path.read_bytes())
            if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
                raise ValueError("the file is damaged")
            compiled = CompileResult._rebuild(target_context, *pickle.loads(content[_DIGEST:]))
            if compiled.signature.args != arguments:
                raise ValueError("the file is of another signature")
        except FileNotFoundError:
            return None
        except Exception as error:
            _STORE.warn(f"riskcore compiles a kernel again, because {path} cannot be read: {error}")
            return None
        return compiled

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write a compiled kernel, first under another name, so that no process reads half of a file."""
        folder = _STORE.folder
        arguments, returned = sigutils.normalize_signature(sig)
        if folder is None or returned is not None or not _STORE.writes or data.library.has_dynamic_globals:
            return
        if not _are_own(arguments):
            return
        try:
            if _STORE.is_current():
                content = serialize.dumps(data._reduce())
                _replace(self._path(folder, arguments), hashlib.sha256(content).digest() + content)
        except Exception as error:
            _STORE.writes = False
            _STORE.warn(f"riskcore does not keep its compiled kernels: {error}")

    def enable(self) -> None:
        """Do nothing: RISKCORE_CACHE switches the cache."""

    def disable(self) -> None:
        """Do nothing: RISKCORE_CACHE switches the cache."""

    def flush(self) -> None:
        """Do nothing: files of another version are in another folder."""


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)  # another process may have removed the folder of a version
    handle, new = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
