"""Where does a shipped learned optimizer beat what is tuned by hand, and where does it lose?

Compares an agent with trained weights (``agents.pretrained()`` lists them) with SGD, momentum, Adam, AdamW
and NAdamW, each with a constant rate and on a cosine, at an equal bill of gradients: on tasks as it was
trained on, but of seeds that it has not met; for longer than it was trained; and on families that it has
never seen. A rate is the best of a grid on seeds of their own, once for the mean loss over the steps and
once for the loss of the last tenth of them, on each problem anew; the learned optimizer has one set of
weights for all. What diverges, or rises above ten times the first loss, counts as ten times that.

    python examples/against_tuned.py --agent lolv2 --pretrained small-networks

The scripts that made the weights have the tables in their docstrings, with what they say:
``examples/meta_train_small_networks.py`` and ``examples/meta_train_lstm.py``. With ``--columns digits`` it is
that for what ``examples/ppo_step_size.py`` writes.

Needs the extra ``data`` (for digits and MNIST) and ``bench`` (for tqdm).
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import agents
import optenvs
from optenvs.core import OptimizationEnv, keys_from_seed

HELD_OUT, TUNING = 1_000_101, 1_000_102  # seeds of the comparison, and of the choice of rates
MOST = 10.0  # times the first loss
DECADES = (-3.5, 0.5)
BASELINES: dict[str, Callable[..., agents.Agent]] = {
    "SGD": agents.SGD,
    "momentum 0.9": functools.partial(agents.SGD, momentum=0.9),
    "Adam": agents.Adam,
    "AdamW": agents.AdamW,
    "NAdamW": agents.NAdamW,
}
SCHEDULES = ("", ", cosine")
Pair = tuple[float, float]


@dataclass(frozen=True)
class Column:
    """Problems of the table.

    Attributes:
        name: its head.
        tasks: tables of an id and keywords; results are means over them.
        steps: how many.
        seeds: held-out instances of each.
        tuning: instances on which rates are chosen.
        fineness: rates a decade of the grid.
    """

    name: str
    tasks: tuple[dict[str, Any], ...]
    steps: int
    seeds: int = 16
    tuning: int = 4
    fineness: int = 2


SMALL_NETWORKS: tuple[dict[str, Any], ...] = (
    {"env": "optenvs/TrainDigits-v0", "widths": (8,), "batch_size": 32},
    {"env": "optenvs/TrainDigits-v0", "widths": (16,), "batch_size": 32},
    {"env": "optenvs/TrainDigits-v0", "widths": (8, 8), "activation": "tanh", "batch_size": 16},
)
"""What ``small-networks`` are, varied by seed."""
DIGITS = ({"env": "optenvs/TrainDigits-v0"},)
MNIST = ({"env": "optenvs/TrainMnist-v0", "model": "mlp", "widths": (32,), "batch_size": 32},)
LOGISTIC = ({"env": "optenvs/LogisticRegression-v0", "dim": 10, "oracle": "gradient"},)
SQUARES = ({"env": "optenvs/LeastSquares-v0", "dim": 10},)

_MNIST = Column("MNIST", MNIST, 150, seeds=4, tuning=1)
_LOGISTIC = Column("logistic", LOGISTIC, 200, seeds=64, fineness=4)
_SQUARES = Column("squares", SQUARES, 100, seeds=256, tuning=64, fineness=6)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "small-networks": (
        Column("held out", SMALL_NETWORKS[1:2], 200, tuning=3),
        Column("400 steps", SMALL_NETWORKS[1:2], 400, seeds=8, tuning=2),
        _MNIST,
        _LOGISTIC,
        _SQUARES,
    ),
    "quadratics": (
        Column("held out", SQUARES, 100, seeds=1024, tuning=64, fineness=6),
        Column("400 steps", SQUARES, 400, seeds=1024, tuning=64, fineness=6),
        _LOGISTIC,
        Column("digits", DIGITS, 220, seeds=4, tuning=2),
    ),
    "digits": (
        Column("held out", DIGITS, 220, seeds=32, tuning=3),
        Column("440 steps", DIGITS, 440, seeds=8, tuning=2),
        _MNIST,
        _LOGISTIC,
        _SQUARES,
    ),
}
"""The tables, by the name of the weights."""


def made(task: dict[str, Any], steps: int) -> OptimizationEnv:
    """The problem with a budget for so many steps."""
    table = dict(task)
    env = optenvs.make(table.pop("env"), tolerance=None, **table)
    if hasattr(env, "evaluation_period"):  # the loss on all data is not looked at
        env = env.replace(evaluation_period=steps + 1)
    main = next(iter(env.bill))
    return env.replace(budget={main: env.first_bill[main] + steps * env.bill[main]})


def course(env: OptimizationEnv, agent: agents.Agent, keys: Tensor, steps: int) -> Tensor:
    """The mean loss over the steps, and that over the last tenth of them, of each instance, ``(2, B)``."""
    run = optenvs.rollout(env, agent, keys=keys, steps=steps)
    most = MOST * run.merit[0].abs()
    losses = torch.where(run.diverged & run.done[1:], torch.inf, run.merit[1:])
    losses = torch.minimum(losses.nan_to_num(torch.inf), most)
    return torch.stack((losses.mean(0), losses[-max(1, steps // 10) :].mean(0)))


def learned(column: Column, agent: agents.Agent) -> Pair:
    """What an agent reaches as it is."""
    keys = keys_from_seed(HELD_OUT, column.seeds)
    told = [course(made(task, column.steps), agent, keys, column.steps).mean(1) for task in column.tasks]
    return tuple(torch.stack(told).mean(0).tolist())  # type: ignore[return-value]


@dataclass(frozen=True)
class Both:
    """Constant rates in the first half of the rows, cosines in the other."""

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        factor = agents.schedules.Cosine()(k, N)
        second = torch.arange(len(k), device=k.device).unsqueeze(1) >= len(k) // 2
        return torch.where(second, factor, 1.0)


def tuned(column: Column, make: Callable[..., agents.Agent]) -> tuple[Pair, ...]:
    """What a method reaches with the best rates of the grid, on each of the schedules."""
    count, kinds = round((DECADES[1] - DECADES[0]) * column.fineness) + 1, len(SCHEDULES)
    grid = torch.logspace(*DECADES, count)
    told = []
    for task in column.tasks:
        env = made(task, column.steps)
        keys = keys_from_seed(TUNING, column.tuning).repeat_interleave(count).repeat(kinds)
        agent = make(lr=grid.repeat(column.tuning * kinds), schedule=Both())
        found = course(env, agent, keys, column.steps).unflatten(1, (kinds, -1, count)).mean(2)
        best = grid[found.argmin(2)].T.flatten()  # of each schedule for the one loss, and for the other
        keys = keys_from_seed(HELD_OUT, column.seeds).repeat(len(best))
        agent = make(lr=best.repeat_interleave(column.seeds), schedule=Both())
        reached = course(env, agent, keys, column.steps).unflatten(1, (kinds, 2, -1)).mean(3)
        told.append(torch.stack([reached[loss, :, loss] for loss in range(2)], 1))
    return tuple(tuple(pair) for pair in torch.stack(told).mean(0).tolist())


def compare(columns: Iterable[Column], agent: agents.Agent, name: str) -> dict[str, list[Pair]]:
    """The rows of the table: the agent, Adam as it comes, and all that is tuned."""
    columns = tuple(columns)
    rows = {name: [learned(column, agent) for column in columns]}
    rows["Adam, 0.001"] = [learned(column, agents.Adam()) for column in columns]
    for baseline, make in tqdm(BASELINES.items(), desc="tuning"):
        pairs = zip(*(tuned(column, make) for column in columns), strict=True)
        rows |= {baseline + kind: list(pair) for kind, pair in zip(SCHEDULES, pairs, strict=True)}
    return rows


def table(columns: Iterable[Column], rows: dict[str, list[Pair]]) -> str:
    """Of each column the mean loss, and the last."""
    lines = [f"{'optimizer':22}" + "".join(f"{column.name:>16}" for column in columns)]
    for name, pairs in rows.items():
        cells = (f"{f'{mean:.3f}  {last:.4f}':>16}" for mean, last in pairs)
        lines.append(f"{name:22}" + "".join(cells))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agent", default="lolv2", help="its name")
    parser.add_argument(
        "--pretrained", default="small-networks", help="name of weights, or a file of one's own"
    )
    parser.add_argument("--columns", help="those of which weights; by default of these")
    options = parser.parse_args(arguments)
    columns = COLUMNS[options.columns or options.pretrained]
    agent = agents.make(options.agent, pretrained=options.pretrained)
    print(table(columns, compare(columns, agent, options.agent)))


if __name__ == "__main__":
    main()
