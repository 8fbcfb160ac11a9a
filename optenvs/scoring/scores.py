"""An agent's score on a split: how many steps tuned Adam needs for what it reaches."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from optenvs import second_name
from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import check_oracles
from optenvs.core.rollout import SupportsActing, rollout

from .normaliser import counted
from .progress import Bar
from .result import Course, Score
from .splits import SEEDS, scored
from .tables import table_of


def score(
    agent: SupportsActing | str | Mapping[str, Any],
    split: Any = "functions",
    *,
    tasks: Any = None,
    steps: int | None = None,
    wrap: Callable[[OptimizationEnv], OptimizationEnv] | None = None,
    name: str | None = None,
    dtype: str = "float64",
    device: str = "cpu",
    progress: bool = True,
) -> Score:
    """How good an optimizer is on tasks that nobody has trained on: its speed-up over tuned Adam.

    The agent meets five instances of each shape class of a split, for as many queries as the split lasts. Its
    learning curve is the mean loss over the instances, smoothed by an exponential average of 0.95. Adam's is
    the least loss that any learning rate of a grid has reached on the same instances, smoothed likewise. The
    number of steps in which Adam comes as low, over those of the agent, is the speed-up: 0 for no progress,
    at most 4. Adam at a rate of the grid has at most 1, and 1 where no rate had been as low before. Every
    query counts alike, whatever the agent reads of the answer.

    Nothing is dropped: an instance that diverges counts from then on as if it had never left its start, the
    worst there is, and is told as failed.

    Args:
        agent: with ``init`` and ``act``: one of ``optenvs.agents``, a learned one with its weights, a trained
            Stable-Baselines3 model (``agents.from_sb3``), one of your own; or a name of ``agents.make``, or a
            table of ``name`` and its keywords: ``{"name": "lolv2", "pretrained": "own.safetensors"}``.
            Learned weights of rows are one set, ``(1, D)``.
        split: a published one, see ``optenvs.list_splits()`` and ``optenvs splits``; or ``seeds`` or
            ``horizons`` of the ``tasks`` that you name; or a table of ``tasks``, ``seed`` and ``stretch``. A
            table of Adam comes with those that say so there; another is computed first, and kept.
        tasks: what your rule was trained on, as in ``MetaTraining``: an id, an environment, or a table of an
            id and its keywords, or a list of these.
        steps: fewer than the split has (500; five times as many for longer horizons). For tasks of your own
            as many as you like.
        wrap: what the agent sees of a task: a function from the task to a wrapper around it, such as
            ``lambda task: StepSizeControl(task, agents.SGD())`` for a policy that names learning rates. What
            a query costs is as before.
        name: of the agent in tables; its class by default.
        dtype: of the tasks, ``float64`` or ``float32``; Adam's table is of ``float64``.
        device: of the tasks.
        progress: show a bar on a terminal.

    Returns:
        Score: ``print`` it; ``speedup``, ``speedups`` (its course), ``failure_rate``, ``calls``, ``seconds``,
        ``courses`` (curves and losses of each shape class), ``plot("score.png")``, ``save`` and ``load``.

    Raises:
        UnknownName: no such split or agent. ValueError: more steps than the split has, or what makes no
        sense. TypeError: no agent. OracleMismatch: it needs an oracle that the tasks do not answer.

    Example:
        >>> import optenvs
        >>> found = optenvs.score({"name": "adam", "lr": 0.1}, "quadratics", steps=100)
        >>> 0.8 < found.speedup <= 1
        True
    """
    whole, count = scored(split, tasks, steps)
    plain = whole.lifetimes(count, dtype, device)
    shown = tuple(_wrapped(wrap, task) for task in plain)
    player = _agent(agent)
    for task in shown:
        check_oracles(type(player).__name__, getattr(player, "needs", ()), task.name, task.oracles)
    table = table_of(whole, progress)
    courses = []
    with Bar(f"{whole.name}", count * len(plain), shown=progress) as bar:
        for task, seen, label, scale in zip(plain, shown, whole.labels, table.scales, strict=True):
            run = rollout(seen, player, keys=whole.keys(seen.torch_device), on_step=bar.step)
            losses, failed = counted(run, count, next(iter(task.bill.values())))
            courses.append(
                Course(
                    task=label,
                    losses=losses,
                    failed=failed,
                    scale=scale,
                    calls=_sums(run.calls),
                    seconds=run.seconds[-1].item(),
                    work={} if run.work is None else _sums(run.work),
                )
            )
    own = name or (agent if isinstance(agent, str) else type(player).__name__)
    return Score(own, whole.name, count, tuple(courses))


def _wrapped(wrap: Callable[[OptimizationEnv], Any] | None, task: OptimizationEnv) -> OptimizationEnv:
    if wrap is None:
        return task
    made = wrap(task)
    if not isinstance(made, OptimizationEnv) or tuple(made.bill) != tuple(task.bill):
        raise TypeError(f"wrap: expected a wrapper around {task.name}, got {made!r}")
    return made


def _agent(given: Any) -> Any:
    """The agent that is meant, with one set of weights for each instance."""
    if isinstance(given, str | Mapping):
        table = {"name": given} if isinstance(given, str) else dict(given)
        if not isinstance(table.get("name"), str):
            raise TypeError(f"agent: expected a table with an agent's 'name', got {given!r}")
        given = importlib.import_module(second_name.NAME).make(table.pop("name"), **table)
    if isinstance(given, type) or not isinstance(given, SupportsActing):
        came = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        raise TypeError(f"agent: expected an object with init and act, a name or a table, got {came}")
    weights = getattr(given, "weights", None)
    if not isinstance(weights, Tensor) or weights.ndim != 2 or not dataclasses.is_dataclass(given):
        return given
    if len(weights) != 1:
        raise ValueError(
            f"agent: weights: expected one set (1, D), got {len(weights)}; score them one by one"
        )
    return dataclasses.replace(given, weights=weights.detach().expand(SEEDS, -1))


def _sums(ledger: Any) -> dict[str, int]:
    """What a ledger counts at its end, of all rows together."""
    last = ledger.counts[-1].sum(0)
    return dict(zip(ledger.kinds, torch.atleast_1d(last).tolist(), strict=True))
