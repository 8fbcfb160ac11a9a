"""How far do tuned classics come on published tasks, against Adam tuned at every step?

SGD, momentum, Nesterov's momentum, Adam, AdamW and NAdamW (Dozat 2016, with decoupled decay), each at a
constant rate and on a cosine to zero, on a published split (``optenvs splits``), for the same 500 gradients
an instance. Each has one rate for all tasks of the split: the best of a grid of ten (1e-4 to 3.16) by the
speed-up on five other instances of each task. A speed-up of 1 is Adam at the best rate of that grid for each
task, and for each number of steps, chosen with hindsight on the very instances: one rate can hardly reach it.

    python examples/score_optimizers.py quadratics --out results/score

Measured on ``quadratics``, speed-ups after 500 gradients (ten minutes on two cores that thirty programs
shared); none of the 15 instances failed:

    optimizer                         d = 5  d = 20   wishart    all
    SGD (lr 0.00316)                   0.17    0.18      0.35   0.23
    SGD, cosine (lr 0.01)              0.19    0.20      0.37   0.26
    momentum (lr 0.01)                 0.39    0.75    > 4.00 > 1.71
    momentum, cosine (lr 0.01)         0.32    0.50      2.76   1.19
    Nesterov (lr 0.00316)              0.28    0.38      0.73   0.46
    Nesterov, cosine (lr 0.00316)      0.25    0.28      0.47   0.33
    Adam (lr 0.316)                    0.55    0.77      0.76   0.69
    Adam, cosine (lr 1)                0.57    0.51      0.77   0.62
    AdamW (lr 0.1)                     0.35    0.75      0.43   0.51
    AdamW, cosine (lr 0.316)           0.36    0.45      0.43   0.42
    NAdamW (lr 0.0316)                 0.26    0.31      0.33   0.30
    NAdamW, cosine (lr 0.1)            0.30    0.30      0.38   0.33

Polyak's momentum alone is faster than Adam tuned at every step, and that on the quadratic of 50 dimensions
only. One rate for all tasks costs Adam a third. AdamW and NAdamW have a decay of 0.01, which moves the
optimum, and come less far. A cosine helps SGD and NAdamW a little, and costs the others.

Needs the extra ``data`` for ``networks``, and ``plot`` for the picture.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

import agents
import optenvs
from optenvs.core import keys_from_seed
from optenvs.core.picture import new_figure
from optenvs.scoring.normaliser import counted, smooth
from optenvs.scoring.result import side_by_side
from optenvs.scoring.splits import SEEDS, Scored, published
from optenvs.scoring.tables import RATES, table_of

GRID = torch.tensor(RATES, dtype=torch.float64)
TUNING = 2_000_003  # seed of the instances on which rates are chosen
DECAY = 0.01


def optimizers() -> dict[str, agents.GradientAgent]:
    """What is compared, by name; the rates are still to be chosen."""
    constant = {
        "SGD": agents.SGD(),
        "momentum": agents.SGD(momentum=0.9),
        "Nesterov": agents.SGD(momentum=0.9, nesterov=True),
        "Adam": agents.Adam(),
        "AdamW": agents.Adam(weight_decay=DECAY, decoupled_weight_decay=True),
        "NAdamW": agents.NAdamW(weight_decay=DECAY),
    }
    cosine = agents.schedules.Cosine()
    found = {}
    for name, agent in constant.items():
        found |= {name: agent, f"{name}, cosine": dataclasses.replace(agent, schedule=cosine)}
    return found


def tuned(agent: agents.GradientAgent, split: Scored, steps: int) -> agents.GradientAgent:
    """The agent at the rate with the best mean speed-up over the split's tasks, on instances of their own."""
    keys = keys_from_seed(TUNING, SEEDS).repeat(len(GRID))
    batch = dataclasses.replace(agent, lr=GRID.repeat_interleave(SEEDS))
    speed = torch.zeros_like(GRID)
    for task, scale in zip(split.lifetimes(steps, "float64", "cpu"), table_of(split).scales, strict=True):
        losses, _ = counted(optenvs.rollout(task, batch, keys=keys), steps, next(iter(task.bill.values())))
        ends = smooth(losses.unflatten(1, (len(GRID), SEEDS)).mean(2))[-1]
        speed += scale.steps(ends)
    return dataclasses.replace(agent, lr=GRID[speed.argmax()].item())


def plot(scores: Sequence[optenvs.Score], path: Path) -> None:
    """The mean speed-up in the course of the steps."""
    figure = new_figure(7, 4.4)
    axes = figure.subplots()
    for number, score in enumerate(scores):
        line = "--" if "cosine" in score.agent else "-"
        axes.plot(range(1, score.steps + 1), score.speedups, line, color=f"C{number // 2}", label=score.agent)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xlabel="steps", ylabel="speed-up over Adam tuned at every step", title=scores[0].split)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    """Tune, score, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("split", nargs="?", default="quadratics", choices=optenvs.list_splits())
    parser.add_argument("--steps", type=int, help="fewer than the split has")
    parser.add_argument("--only", nargs="+", choices=list(optimizers()), default=list(optimizers()))
    parser.add_argument("--out", type=Path, default=Path("results/score"))
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # the tasks are small: threads would cost more than they give
    options.out.mkdir(parents=True, exist_ok=True)
    split = published(options.split)
    steps = options.steps or split.steps
    scores = []
    for name in options.only:
        agent = tuned(optimizers()[name], split, steps)
        title = f"{name} (lr {agent.lr:.3g})"
        scores.append(optenvs.score(agent, options.split, steps=steps, name=title, progress=False))
        scores[-1].save(options.out / f"{options.split} {name}.safetensors")
        print(f"{scores[-1].speedup:.2f}  {title}", flush=True)
    print(side_by_side(scores))
    plot(scores, options.out / f"{options.split}.png")
    print(f"scores and the picture are in {options.out}")


if __name__ == "__main__":
    main()
