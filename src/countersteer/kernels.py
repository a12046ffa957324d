"""How kernels are compiled and where the compiled ones are kept. Imports numba, so it is imported lazily.

Numba keeps a compiled function beside its source or in the home folder. It fails where neither can be written, and
keeps using a function when one that it calls, or a constant, changed in another file. Here a kernel is kept in the first
folder that can be written, or not at all, and is compiled again when anything that it is made of changes.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
from numba.core import caching
from numba.core.dispatcher import Dispatcher

__all__ = ["inner", "njit"]

_LOG = logging.getLogger("countersteer")


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function at its first call and keep the result; options as of `numba.njit`."""

    def compile_later(function: Callable[..., Any]) -> Any:
        kernel: Any = nb.njit(**options)(function)
        try:
            kernel._cache = _Cache(function)
        except RuntimeError:  # no folder can be written
            kernel._cache = _NoCache()
        return kernel

    return compile_later


def inner(function: Callable[..., Any], *, fastmath: bool | set[str] = False) -> Callable[..., Any]:
    """Compile a function that kernels call and that borrows the arrays it is given.

    Without `_nrt=False` numba counts references to every array of every tuple that is handed on, two atomic
    operations each; with forty arrays in a tuple that was five sixths of a tick. Such a function can
    allocate nothing: no new arrays, and no assignment of one slice to another.
    """
    return njit(fastmath=fastmath, nogil=True, error_model="numpy", _nrt=False)(function)


def _stamp(function: Callable[..., Any]) -> bytes:
    """A digest of all that a function is compiled from: files of kernels it can call, and constants it can see."""
    digest, seen, waiting = hashlib.sha256(), set(), [function]
    while waiting:
        each = waiting.pop()
        if each.__module__ in seen:
            continue
        seen.add(each.__module__)
        digest.update(Path(inspect.getfile(each)).read_bytes())
        for name, value in sorted(each.__globals__.items()):
            if isinstance(value, Dispatcher):
                waiting.append(value.py_func)
            elif hasattr(value, "_defn"):  # an intrinsic
                waiting.append(value._defn)
            elif _is_constant(value) and not name.startswith("__"):
                digest.update(f"{name} {value!r}".encode())
            elif isinstance(value, np.ndarray):
                digest.update(name.encode() + value.tobytes())
    return digest.digest()


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_constant(each) for each in value)
    return isinstance(value, bool | int | float | str)


class _Stamped:
    """Mixed into numba's places for compiled functions."""

    _py_file: str

    def __init__(self, function: Callable[..., Any], file: str):
        super().__init__(function, file)  # pyright: ignore
        self._function = function

    def get_source_stamp(self) -> bytes:
        return _stamp(self._function)


class _Given(_Stamped, caching.UserProvidedCacheLocator):
    """NUMBA_CACHE_DIR."""


class _BesideSource(_Stamped, caching.InTreeCacheLocator):
    """The package's folder."""


class _Home(_Stamped, caching.UserWideCacheLocator):
    """The user's folder for caches."""


class _Temporary(_Stamped, caching.UserWideCacheLocator):
    """A folder of this user's among temporary files."""

    def __init__(self, function: Callable[..., Any], file: str):
        super().__init__(function, file)
        self._own = Path(tempfile.gettempdir()) / f"countersteer-kernels-{os.getuid()}"
        self._cache_path = str(self._own / self.get_suitable_cache_subpath(file))

    def ensure_cache_path(self) -> None:
        """Make the folder; nobody else may write into it, since what lies there is run."""
        self._own.mkdir(mode=0o700, exist_ok=True)
        state = self._own.lstat()
        if state.st_uid != os.getuid() or not stat.S_ISDIR(state.st_mode) or state.st_mode & 0o077:
            raise OSError(f"{self._own} belongs to somebody else")
        super().ensure_cache_path()


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Given, _BesideSource, _Home, _Temporary]  # noqa: RUF012


class _Cache(caching.FunctionCache):
    """Numba's cache, which says when kernels are compiled and in which a failure costs time and nothing else."""

    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # a torn file fails in any way that unpickling can
            _LOG.info("the kept kernel %s cannot be read (%s)", self._name, error)
            found = None
        if found is None:
            _say_once("kernels are compiled for this processor: a minute or two, once after an installation")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_once(f"compiled kernels cannot be kept in {self.cache_path}: {error}")


class _NoCache(caching.NullCache):
    def load_overload(self, sig: Any, target_context: Any) -> None:
        _say_once(
            "kernels are compiled for this processor, a minute or two at every start: neither the package's folder nor "
            "the home folder nor the temporary one can be written; NUMBA_CACHE_DIR=FOLDER names one that can"
        )


@functools.cache
def _say_once(line: str) -> None:
    _LOG.warning(line)
