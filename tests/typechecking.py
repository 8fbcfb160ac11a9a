"""The run-time type checker of the tests: it looks at annotated shapes and dtypes, and at nothing else.

Plain annotations are left to the static type checker: bad input must reach the code, so that a test can read
the error that a user would get.
"""

from __future__ import annotations

import inspect
import random
import typing
from collections.abc import Callable
from typing import Any

from jaxtyping import AbstractArray

# beartype draws which item of a container it looks at; given a generator of its own on import, it leaves the
# global one of Python alone, and tests can see whether anything else touches that
_getrandbits, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
from beartype import BeartypeConf, beartype  # noqa: E402

random.getrandbits = _getrandbits
_NUMBERS = BeartypeConf(is_pep484_tower=True)  # an int is a float


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with those of its annotations checked that name a shape."""
    kept = {}
    for name, hint in inspect.get_annotations(function).items():
        try:
            hint = eval(hint, function.__globals__) if isinstance(hint, str) else hint
        except NameError:  # imported for static checking only, or local
            continue
        if _names_a_shape(hint):
            kept[name] = hint
    if not kept:
        return function
    function.__annotations__ = kept
    return beartype(conf=_NUMBERS)(function)


def _names_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_names_a_shape(part) for part in typing.get_args(hint))
