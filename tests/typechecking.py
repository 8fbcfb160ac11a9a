"""The run-time type checker of the tests: it looks at annotated shapes and dtypes, and at nothing else.

Plain annotations are left to the static type checker: bad input must reach the code, so that a test can read
the error that a user would get.

What the check says depends on dtypes and shapes alone. So a function is checked once with each combination of
them; a call that brings a known one costs a look-up. (Checked anew, they took half of the time of all tests.)
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import random
import typing
from collections.abc import Callable, Hashable
from typing import Any

import jaxtyping
import numpy as np
from jaxtyping import AbstractArray
from torch import Tensor

# beartype draws which item of a container it looks at; given a generator of its own on import, it leaves the
# global one of Python alone, and tests can see whether anything else touches that
_getrandbits, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
from beartype import BeartypeConf, beartype  # noqa: E402

random.getrandbits = _getrandbits
_ABSENT = type("Absent", (), {})()  # an argument that has its default
_PLAIN = (type(None), bool, int, float, str, type(_ABSENT))
_ARRAYS = (Tensor, np.ndarray)
_NUMBERS = BeartypeConf(is_pep484_tower=True)  # an int is a float
_ANSWER = "answer_of_the_call"  # no parameter is called so
_their_jaxtyped = jaxtyping.jaxtyped


def install(module: str) -> None:
    """Shapes in the annotations of what is imported from ``module`` from now on are checked."""
    jaxtyping.jaxtyped = jaxtyped  # what the hook writes above every function and class
    jaxtyping.install_import_hook(module, None)


def jaxtyped(decorated: Any = None, *, typechecker: None = None) -> Any:
    """As jaxtyping's own: ``decorated``, a function or a dataclass, with its shapes checked."""
    if decorated is None:
        return jaxtyped
    if not inspect.isclass(decorated):
        return _checked(decorated)
    if dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated):
        decorated.__init__ = _checked(decorated.__init__)
    return decorated


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    code = function.__code__
    checks = _seen.get(id(code)) or _seen.setdefault(id(code), _Checks(function))
    if not checks.hints:
        return function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = checks.arguments(args, kwargs)
        answer = function(*args, **kwargs)
        checks.answer(answer, given, args, kwargs)
        return answer

    return wrapper


class _Checks:
    """Of one function: by jaxtyping and beartype, where a combination is new."""

    def __init__(self, function: Callable[..., Any]):
        self.hints = _shapes(function)
        self._code = function.__code__  # kept, so that nothing else gets its id
        self._name = function.__module__, function.__qualname__, function.__name__
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        self._places = [(i, p.name) for i, p in enumerate(parameters) if p.name in self.hints]
        variadic = {p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        self._has_keys = not variadic & set(self.hints)
        self._passed: set[Hashable] = set()

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        """Checks them and answers their key: None where they have none."""
        given = self._key(args, kwargs) if self._has_keys else None
        if given is None or given not in self._passed:
            self._of_arguments(*args, **kwargs)
            self._passed.add(given)
        return given

    def answer(self, answer: Any, given: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Checks it beside the arguments, whose key is ``given``."""
        if "return" not in self.hints:
            return
        found = _key(answer)
        if given is None or found is None or (given, found) not in self._passed:
            self._of_all(*args, **kwargs, **{_ANSWER: answer})
            self._passed.add((given, found))

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        keys = []
        for i, name in self._places:
            key = _key(args[i] if i < len(args) else kwargs.get(name, _ABSENT))
            if key is None:
                return None
            keys.append(key)
        return tuple(keys)

    @functools.cached_property
    def _of_arguments(self) -> Callable[..., Any]:
        return self._check(lambda *_, **__: None, with_answer=False)

    @functools.cached_property
    def _of_all(self) -> Callable[..., Any]:
        return self._check(lambda *_, **given: given[_ANSWER], with_answer=True)

    def _check(self, check: Callable[..., Any], with_answer: bool) -> Callable[..., Any]:
        empty = inspect.Signature.empty
        parameters = [
            p.replace(annotation=self.hints.get(p.name, empty)) for p in self._signature.parameters.values()
        ]
        if with_answer:
            last = bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
            added = inspect.Parameter(_ANSWER, inspect.Parameter.KEYWORD_ONLY)
            parameters.insert(len(parameters) - last, added)
        answers = self.hints.get("return", empty) if with_answer else empty
        check.__signature__ = inspect.Signature(parameters, return_annotation=answers)
        check.__module__, check.__qualname__, check.__name__ = self._name
        return _their_jaxtyped(check, typechecker=beartype(conf=_NUMBERS))


_seen: dict[int, _Checks] = {}  # by code: a local function is decorated at each call of its outer one


def _key(value: Any) -> Hashable:
    """All of ``value`` that a check of shapes looks at; None where that is not known from its kind."""
    kind = type(value)
    if kind is Tensor or isinstance(value, _ARRAYS):
        return value.dtype, value.shape
    if kind in _PLAIN:
        return kind
    if kind is dict:
        parts = [part for item in value.items() for part in item]
    elif isinstance(value, tuple):
        parts = list(value)
    else:
        return None
    keys = [_key(part) for part in parts]
    return None if None in keys else (kind, *keys)


def _shapes(function: Callable[..., Any]) -> dict[str, Any]:
    """Those of the annotations that name a shape."""
    kept = {}
    for name, hint in inspect.get_annotations(function).items():
        try:
            hint = eval(hint, function.__globals__) if isinstance(hint, str) else hint
        except (NameError, AttributeError):  # for static checking only, or local
            continue
        if _names_a_shape(hint):
            kept[name] = hint
    return kept


def _names_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_names_a_shape(part) for part in typing.get_args(hint))
