"""The decorators of the kernels."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.registry import cpu_target
from numba.extending import overload

from ._cache import KernelCache

F = TypeVar("F", bound=Callable[..., object])

JIT_OFF = bool(getattr(numba.config, "DISABLE_JIT", 0))
"""Whether the kernels run as plain Python."""

# fastmath stays off: it removes the NaN checks that the trigger test relies on.
# nogil lets Python threads run chunks at the same time, without a threading layer.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

# Columns travel in tuples of arrays. Without _nrt=False every access counts references, and without forceinline a
# call copies them all: together forty times the time of a slice (docs/decisions/0009-columns-in-kernels.md).
# Numba does not document _nrt, and refuses an option that it does not know when a kernel compiles.
_NO_COUNTS: dict[str, Any] = {"_nrt": False} if hasattr(cpu_target.options, "_nrt") else {}
_INLINE: dict[str, Any] = _OPTIONS | _NO_COUNTS | {"forceinline": True}
_INNER: dict[str, Any] = _INLINE | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _cached(options: dict[str, Any]) -> Callable[[F], F]:
    """Decorator that compiles a function, and caches the compiled code of the package's own functions on disk."""
    compiled = numba.njit(**options)

    def decorate(function: F) -> F:
        dispatcher: Any = compiled(function)  # the function itself where the JIT is off
        if dispatcher is not function and function.__module__.startswith("riskcore."):
            dispatcher._cache = KernelCache(function)
        return cast(F, dispatcher)

    return decorate


kernel = _cached(_INLINE)
"""Decorator of a kernel that allocates no arrays."""

inner_kernel = cast(Callable[[F], F], numba.njit(**_INNER))
"""The same for a kernel that only kernels call: unpacking columns for Python is most of the cost of compiling.

It is not cached by itself: the kernels that call it contain its code."""

allocating_kernel = _cached(_OPTIONS)
"""Decorator of a kernel that allocates arrays."""

host_function = cast(Callable[[F], F], numba.njit)
"""Decorator of a function of riskcore.hosts, which a host's njit loop calls with its own objects.

It is no kernel: such objects count references, and what is compiled for them is not kept on disk."""


def model_kernel(function: F) -> F:
    """Decorator of a kernel that every margin model implements (margin_model.py); the function has no body.

    A call runs the implementation of the class of the argument ``prices``, which the compiler knows by its type. An
    argument that is a function would have another type in each process, and no kernel that takes it could be kept.
    """
    implementations: dict[type, Callable[..., object]] = {}
    index = list(inspect.signature(function).parameters).index("prices")

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return implementations[type(arguments[index])](*arguments)

    def source_of(*types: Any) -> Any:
        implementation = implementations.get(getattr(types[index], "instance_class", type(None)))
        return getattr(implementation, "py_func", implementation)

    if not JIT_OFF:
        overload(call, jit_options=cast(Any, _INNER), strict=False)(source_of)
    cast(Any, call).implementations = implementations
    return cast(F, call)


def implement(prices: type, implementations: dict[Any, Callable[..., object]]) -> None:
    """Name the implementations of model kernels for a class of folded prices; a class is named once."""
    for function, implementation in implementations.items():
        if function.implementations.setdefault(prices, implementation) is not implementation:
            raise ValueError(f"{function.__name__} has an implementation for {prices.__name__} already")
