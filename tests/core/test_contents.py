"""Digests of a user's functions, modules and objects: what can answer otherwise has another one."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optenvs.core.contents import digest


def with_default(a: Any) -> Callable[[Any], Any]:
    return lambda y, a=a: a * y


def with_keyword(a: Any) -> Callable[[Any], Any]:
    def times(y: Any, *, a: Any = a) -> Any:
        return a * y

    return times


def with_closure(a: Any) -> Callable[[Any], Any]:
    return lambda y: a * y


def with_function_inside(a: Any) -> Callable[[Any], Any]:
    inner = with_default(a)
    return lambda y: inner(y)


def with_cache(a: Any) -> Callable[[Any], Any]:
    return functools.lru_cache(lambda y: a * y)


class Times:
    def __init__(self, a: Any) -> None:
        self.a = a

    def of(self, y: Any) -> Any:
        return self.a * y

    def __call__(self, y: Any) -> Any:
        return self.a * y


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a: Any) -> None:
        self.a = a


def made_here(a: Any) -> Any:
    class Here:
        def __call__(self, y: Any) -> Any:
            return a * y

    return Here()


class Scaled(torch.nn.Module):
    def __init__(self, a: Any) -> None:
        super().__init__()
        self.a = a


class Hidden(torch.nn.Module):
    def __init__(self, a: Any) -> None:
        super().__init__()
        self.register_buffer("a", torch.tensor([float(a)]), persistent=False)


def linear(a: Any) -> torch.nn.Module:
    layer = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(layer.weight, a)
    torch.nn.init.constant_(layer.bias, a)
    return layer


def long_tensor(a: Any) -> torch.Tensor:
    numbers = torch.zeros(3000)
    numbers[1500] = a
    return numbers


FORMS: dict[str, Callable[[Any], Any]] = {
    "default": with_default,
    "keyword": with_keyword,
    "closure": with_closure,
    "function inside": with_function_inside,
    "cached function": with_cache,
    "partial": lambda a: functools.partial(max, a),
    "method": lambda a: Times(a).of,
    "built-in method": lambda a: [a].count,
    "object": Times,
    "slots": Slotted,
    "class made in a function": made_here,
    "attribute of a module": Scaled,
    "buffer that is not saved": Hidden,
    "weights": linear,
    "network in a closure": lambda a: with_closure(linear(a)),
    "one number of many": lambda a: with_closure(long_tensor(a)),
    "one number of an array": lambda a: with_closure(long_tensor(a).numpy()),
    "seventh digit": lambda a: with_closure(torch.tensor(1 + a * 1e-7, dtype=torch.float64)),
    "half precision": lambda a: torch.tensor([a, 0.0], dtype=torch.bfloat16),
    "objects in an array": lambda a: np.array([Times(a), None], dtype=object),
    "set": lambda a: {a, "b"},
    "dict": lambda a: {"a": [a, (a,)]},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_can_answer_otherwise_differs(form: str) -> None:
    make = FORMS[form]
    assert digest(make(2)) == digest(make(2))
    assert digest(make(2)) != digest(make(3))


def test_code_shape_dtype_and_class_matter() -> None:
    zeros = torch.zeros(4)
    things = [
        lambda y: y + 1,
        lambda y: y - 1,
        zeros,
        zeros.double(),
        zeros.reshape(2, 2),
        zeros.numpy(),
        0,
        False,
        "0",
    ]
    things += [
        Scaled(0),
        Hidden(0),
        Times(0),
        Slotted(0),
        [0],
        (0,),
        None,
        Times,
        Slotted,
        len,
        max,
        np,
        torch,
    ]
    assert len({digest(thing) for thing in things}) == len(things)


def test_a_number_counts_at_any_stride() -> None:
    number = torch.arange(6.0).reshape(2, 3)[:1, 0]
    apart = torch.as_strided(torch.arange(6.0), (1,), (3,))
    assert apart.is_contiguous()
    assert digest(number) == digest(apart) == digest(torch.zeros(1)) != digest(torch.ones(1))


def test_circles_end_and_what_cannot_be_looked_into_equals_itself_alone() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert digest(circle) == digest(circle)
    one, other = with_closure(threading.Lock()), with_closure(threading.Lock())
    assert digest(one) == digest(one) != digest(other)


def test_it_is_the_same_in_another_process() -> None:
    forms = [form for form in FORMS if form != "class made in a function"]
    code = "import test_contents as t; print(*(t.digest(t.FORMS[form](2)) for form in t.sys.argv[1:]))"
    call = [sys.executable, "-c", code, *forms]
    done = subprocess.run(call, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        import test_contents as same_name
    finally:
        sys.path.pop(0)
    assert done.stdout.split() == [digest(same_name.FORMS[form](2)) for form in forms]
