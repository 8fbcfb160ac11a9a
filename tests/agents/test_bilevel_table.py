"""The table of the bilevel methods: each runs on a problem, or refuses it by name, as it says."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents import bilevel
from optenvs.core.env import OptimizationEnv

STEPS = 6
SAMPLES = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2)
SETTINGS: dict[str, dict[str, Any]] = {
    # short loops
    "blocc": {"primal": 1, "rounds": 1},
    "bvfsm": {"lower": 1, "inner": 1},
    "implicit_gradient": {"steps": 1},
    "unrolled": {"inner": 1},
    "stoc_bio": {"inner": 1, "terms": 1},
    "f2sa": {"inner": 1},
    "aipod": {"inner": 1},
    "e_aipod": {"inner": 1},
}


def upper(x: Tensor, y: Tensor) -> Tensor:
    return ((y - 1) ** 2).sum() + (x**2).sum()


def lower(x: Tensor, y: Tensor) -> Tensor:
    return ((y - x) ** 2).sum()


def noisy(x: Tensor, y: Tensor, own: Tensor) -> Tensor:
    return lower(x, y) + ((own @ y) ** 2).mean()


PROBLEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Toy": ("BilevelToy", {"dim": 2}),
    "Strong": ("BilevelStrong", {"dim": 3, "equations": 1, "upper_equations": 1}),
    "Inequality": ("BilevelInequality", {}),
    "Svm": ("BilevelSvm", {"train": 5, "validation": 4}),
    "Cleaning": ("BilevelCleaning", {"train": 5, "validation": 4}),
    "LongTail": ("BilevelLongTail", {"clients": 2, "widths": (2,), "batch_size": 4, "solve_steps": 1}),
    "free": ("", {"lower": lower}),
    "batches": ("", {"lower": noisy, "samples": {"lower": SAMPLES}, "batch_size": 2}),
}


@functools.cache
def made(column: str) -> OptimizationEnv:
    name, keywords = PROBLEMS[column]
    if name:
        return optenvs.make(name, **keywords)
    return optenvs.bilevel_from_functions(upper, x=2, y=2, **keywords)


def table() -> dict[str, dict[str, bool]]:
    """By agent and column, whether it runs."""
    lines = [line.split() for line in (bilevel.__doc__ or "").splitlines()]
    start = next(i for i, words in enumerate(lines) if words[:1] == ["agent"])
    columns = lines[start][1:]
    found = {}
    for words in lines[start + 1 :]:
        if not words:
            break
        assert len(words) == len(columns) + 1, words
        assert set(words[1:]) <= {"+", "-"}, words
        found[words[0]] = {column: word == "+" for column, word in zip(columns, words[1:], strict=True)}
    return found


def test_the_table_has_every_agent_and_every_problem() -> None:
    known = table()
    assert sorted(known) == sorted(spec.name for spec in bilevel.AGENTS)
    ids = {f"optenvs/{name}-v0" for name, _ in PROBLEMS.values() if name}
    assert ids == set(optenvs.list_envs(family="bilevel"))
    for row in known.values():
        assert list(row) == list(PROBLEMS)


ASKING = {
    "equations": ("Toy", "Strong"),
    "inequalities": ("Inequality",),
    "minibatches": ("batches", "LongTail"),
}
"""Columns that ask for what ``optenvs agents`` says that an agent takes."""


@pytest.mark.parametrize("name", [spec.name for spec in bilevel.AGENTS])
def test_what_an_agent_takes_is_what_the_table_says(name: str) -> None:
    runs = table()[name]
    for word, columns in ASKING.items():
        assert (word in agents.takes(name)) == any(runs[column] for column in columns), word


@pytest.mark.parametrize("name", [spec.name for spec in bilevel.AGENTS])
def test_an_agent_runs_or_refuses_by_name_as_the_table_says(name: str) -> None:
    agent = agents.make(name, **SETTINGS.get(name, {}))
    for column, runs in table()[name].items():
        env = made(column)
        if runs:
            run = optenvs.rollout(env, agent, steps=STEPS)
            assert bool(run.merit.isfinite().all()), column
            continue
        with pytest.raises((TypeError, ValueError), match=f"agent {type(agent).__name__}"):
            optenvs.rollout(env, agent, steps=1)
