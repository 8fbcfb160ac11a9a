"""Do the published CIFAR-10 accuracies of diffGrad and AdaBelief come out? A ResNet, by the papers' recipes.

    python examples/cifar10_optimizers.py --recipe adabelief --folder ~/data --device cuda
    python examples/cifar10_optimizers.py --recipe diffgrad --folder ~/data --optimizers sgd adam diffgrad
    python examples/cifar10_optimizers.py --smoke         (generated images, seconds: tries the whole path)

The recipes; both crop and mirror the images, have minibatches of 128 and a width of 64:

    adabelief   ResNet-34, 200 epochs, rates times 0.1 after epoch 150, weight decay 5e-4 (AdamW: 1e-2)
    diffgrad    ResNet-50, 100 epochs, rates times 0.1 after epoch 80; all rates are 1e-3, also SGD's

It can be stopped at any time: the same command goes on after the last whole epoch. ``--folder`` holds
``cifar-10-batches-py`` or ``cifar-10-batches-bin``; without it, ``OPTENVS_DATA`` names the folder.

**The full run was not made when this was written: no GPU was at hand.** What was measured are small ones, on
lossy copies (JPEG) of the 60,000 images, a minute an epoch on one core, one seed:

    --recipe adabelief --any-files --epochs 6 --depth 18 --width 8     test accuracy in per cent, by epoch

    sgd         47.01  57.29  64.62  67.48  72.25  73.77
    adam        50.23  58.51  62.25  67.30  70.92  71.52
    adamw       50.43  58.62  62.37  66.83  70.79  70.77
    adabelief   48.24  58.96  63.41  67.46  70.19  71.20

    the same with --epochs 12 (the rates fall after 9)

    sgd         47.01  57.29  64.62  67.48  69.39  70.72  70.84  71.30  72.71  77.66  78.65  78.52
    adabelief   48.24  58.96  63.41  67.46  69.21  69.46  72.06  72.43  73.28  75.74  76.53  76.31

    --recipe diffgrad --any-files --epochs 4 --depth 18 --width 8

    adam        49.66  59.12  64.16  67.50
    diffgrad    46.65  54.42  59.52  61.78

After 6 and 12 of 200 epochs of a network of an eighth of the width, SGD with its rate of 0.1 is ahead by two
points and the adaptive ones are within one; after 4 of 100 diffGrad, whose factor of 0.5 to 1 makes its
steps the shorter ones, is behind Adam. The papers' orders are of the last epochs: this neither confirms nor
contradicts them. ``--smoke`` says nothing of CIFAR-10.

What differs from the papers:

* Batch normalisation uses the statistics of the images it sees, also at the test (500 at a time), where the
  papers have running averages.
* An incomplete last minibatch is dropped (390 updates an epoch).
* AdaBound and Yogi, which AdaBelief's paper has between AdaBelief and Adam, are no agents here.
* The table of diffGrad's paper was made with a fault that ``DiffGrad`` has as an option, here
  ``diffgrad-fault``; ``adam-half``, Adam at half the rate, is what it then nearly is. The weight decay of
  that paper is not stated; here it has none.
"""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import agents
import optenvs
from agents.core import GradientAgent
from optenvs.core import OptimizationEnv, State
from optenvs.data import MissingData

History = list[dict[str, float]]
Best = dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """How a paper trained, and what it found.

    Attributes:
        depth: of the ResNet.
        epochs: passes through the data.
        decay_at: the share of them after which the rate is a tenth.
        optimizers: agents by name.
        published: test accuracy in per cent, of the best and (where it is known) of the last epoch.
        claims: what the results have to show, as functions of the best accuracies.
    """

    depth: int
    epochs: int
    decay_at: float
    optimizers: dict[str, GradientAgent]
    published: dict[str, tuple[float, float | None]]
    claims: dict[str, Callable[[Best], bool]]


_WD = 5e-4
RECIPES = {
    "adabelief": Recipe(
        depth=34,
        epochs=200,
        decay_at=0.75,
        optimizers={
            "sgd": agents.SGD(lr=0.1, momentum=0.9, weight_decay=_WD),
            "adam": agents.Adam(lr=1e-3, weight_decay=_WD),
            "adamw": agents.AdamW(lr=1e-3, weight_decay=1e-2),
            "adabelief": agents.AdaBelief(lr=1e-3, eps=1e-8, weight_decay=_WD),
        },
        published={
            "sgd": (94.64, 93.52),
            "adam": (93.02, 92.94),
            "adamw": (94.59, 94.28),
            "adabelief": (95.44, 95.20),
        },
        claims={
            "AdaBelief reaches 95.0": lambda best: best["adabelief"] >= 95.0,
            "Adam is at 93.0 +- 0.4": lambda best: abs(best["adam"] - 93.0) <= 0.4,
            "AdaBelief is above Adam": lambda best: best["adabelief"] > best["adam"],
        },
    ),
    "diffgrad": Recipe(
        depth=50,
        epochs=100,
        decay_at=0.8,
        optimizers={
            "sgd": agents.SGD(lr=1e-3, momentum=0.9),
            "adagrad": agents.Adagrad(lr=1e-3),
            "rmsprop": agents.RMSprop(lr=1e-3),
            "amsgrad": agents.Adam(lr=1e-3, amsgrad=True),
            "adam": agents.Adam(lr=1e-3),
            "adam-half": agents.Adam(lr=5e-4),
            "diffgrad": agents.DiffGrad(lr=1e-3),
            "diffgrad-fault": agents.DiffGrad(lr=1e-3, clone_prev=False),
        },
        published={
            "sgd": (90.15, None),
            "adagrad": (91.30, None),
            "rmsprop": (92.26, None),
            "amsgrad": (93.51, None),
            "adam": (93.72, None),
            "diffgrad": (94.08, None),
        },
        claims={
            "diffGrad is at 94.1 +- 0.6": lambda best: abs(best["diffgrad"] - 94.1) <= 0.6,
            "diffGrad is 2 points above SGD's published 90.15": lambda best: best["diffgrad"] >= 92.15,
        },
    ),
}


def train(
    core: OptimizationEnv, agent: GradientAgent, epochs: int, seed: int, path: Path, name: str
) -> History:
    """Train one network, or go on with the one in ``path``; what each epoch ended with.

    Raises:
        ValueError: ``path`` is of a run with other settings.
    """
    fields = [f.name for f in dataclasses.fields(core) if f.name not in ("folder", "device")]
    settings = {field: repr(getattr(core, field)) for field in fields}
    settings |= {"agent": repr(agent), "seed": repr(seed)}
    saved: dict[str, Any] = {"settings": settings, "history": [], "run": None, "done": False}
    if path.exists():
        saved = optenvs.load(path, core.device)
        for field, value in settings.items():
            if (other := saved["settings"].get(field)) != value:
                raise ValueError(
                    f"{path}: made with {field} {other}, now {value}; give another --out, or remove the file"
                )
    history, run, period = saved["history"], saved["run"], core.evaluations
    assert period is not None
    with tqdm(total=epochs * period, initial=len(history) * period, desc=name, leave=False) as bar:

        def count(step: int, state: State) -> None:
            bar.update()

        done = saved["done"]
        while not done:
            run = optenvs.rollout(core, agent, seed=seed, steps=period, resume=run, on_step=count)
            found = {metric: values[-1].item() for metric, values in run.metrics.items()}
            history.append(found | {"seconds": run.seconds[-1].item()})
            bar.set_postfix(test=f"{100 * found['test_accuracy']:.2f}%", loss=f"{found['train_loss']:.3f}")
            done = len(history) == epochs or bool(run.diverged.any())
            # the state of a large network takes hundreds of megabytes; when the run is done, nobody needs it
            kept = None if done else run
            optenvs.save(path, {"settings": settings, "history": history, "run": kept, "done": done})
    return history


def table(recipe: Recipe, histories: dict[str, list[History]]) -> str:
    """Best and last test accuracy beside the published ones, mean over the seeds, in per cent."""
    columns = f"{'best':>8}{'last':>8}{'published best':>16}{'last':>8}{'difference':>12}{'epochs':>8}"
    lines = [f"{'optimizer':16}{columns}"]
    for name, runs in histories.items():
        best, last = accuracies(runs)
        row = f"{name:16}{best:8.2f}{last:8.2f}"
        published = recipe.published.get(name, (None, None))
        row += "".join(
            f"{'-' if p is None else f'{p:.2f}':>{w}}" for p, w in zip(published, (16, 8), strict=True)
        )
        row += f"{'-' if published[0] is None else f'{best - published[0]:+.2f}':>12}"
        lines.append(row + f"{min(map(len, runs)):8d}")
    return "\n".join(lines)


def accuracies(runs: list[History]) -> tuple[float, float]:
    """Test accuracy in per cent of the best and of the last epoch, mean over the runs."""
    tests = [[100 * epoch["test_accuracy"] for epoch in history] for history in runs]
    return float(np.mean([max(t) for t in tests])), float(np.mean([t[-1] for t in tests]))


def verdicts(recipe: Recipe, histories: dict[str, list[History]]) -> str:
    """The claims, and whether they hold; those of optimizers that did not run are left open."""
    best = {name: accuracies(runs)[0] for name, runs in histories.items()}
    lines = []
    for claim, holds in recipe.claims.items():
        try:
            lines.append(f"{claim}: {'yes' if holds(best) else 'NO'}")
        except KeyError as missing:
            lines.append(f"{claim}: {missing.args[0]} was not run")
    return "\n".join(lines)


def generate(folder: Path, count: int = 64) -> None:
    """Write six files of ``count`` images in the format of CIFAR-10: a colour and stripes for each class."""
    rng = np.random.default_rng(0)
    target = folder / "cifar-10-batches-py"
    target.mkdir(parents=True)
    colours = rng.integers(60, 196, (10, 3, 1, 1))
    place = np.arange(32)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = rng.permutation(np.arange(count) % 10)
        stripes = 40 * np.sin((1 + labels[:, None]) * place / 5 + rng.uniform(0, 6, (count, 1)))
        pixels = colours[labels] + stripes[:, None, None, :] + rng.normal(0, 20, (count, 3, 32, 32))
        rows = pixels.clip(0, 255).astype(np.uint8).reshape(count, -1)
        batch = {b"batch_label": name.encode(), b"labels": labels.tolist(), b"data": rows}
        (target / name).write_bytes(pickle.dumps(batch, protocol=2))


def compare(options: argparse.Namespace) -> dict[str, list[History]]:
    """Train all that was asked for."""
    recipe = RECIPES[options.recipe]
    core = optenvs.make(
        "optenvs/TrainCifar10-v0",
        folder=options.folder,
        check=not (options.smoke or options.any_files),
        depth=options.depth,
        widths=(options.width,),
        batch_size=options.batch_size,
        samples=options.samples,
        epochs=options.epochs,
        augment="crop_flip",
        device=options.device,
    )
    schedule = agents.schedules.Steps(at=(recipe.decay_at,), factor=0.1)
    options.out.mkdir(parents=True, exist_ok=True)
    histories: dict[str, list[History]] = {}
    for name in options.optimizers:
        agent = dataclasses.replace(recipe.optimizers[name], schedule=schedule)
        for seed in range(options.seeds):
            path = options.out / f"{options.recipe}-{name}-{seed}.safetensors"
            history = train(core, agent, options.epochs, seed, path, f"{name}, seed {seed}")
            histories.setdefault(name, []).append(history)
    return histories


def sizes(options: argparse.Namespace) -> dict[str, Any]:
    """The recipe's sizes, or those of the trial."""
    if options.smoke:
        return {"epochs": 3, "depth": 18, "width": 4, "batch_size": 32}
    recipe = RECIPES[options.recipe]
    return {"epochs": recipe.epochs, "depth": recipe.depth, "width": 64, "batch_size": 128}


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line, with what is not given filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", choices=RECIPES, default="adabelief")
    parser.add_argument("--optimizers", nargs="+", metavar="NAME", help="all of the recipe by default")
    parser.add_argument("--folder", help="where cifar-10-batches-py or -bin is")
    parser.add_argument("--any-files", action="store_true", help="not the published files, as a lossy copy")
    parser.add_argument("--epochs", type=int, help="the decay of the rates moves with them")
    parser.add_argument("--depth", type=int, choices=(18, 34, 50))
    parser.add_argument("--width", type=int)
    parser.add_argument("--samples", type=int, help="the first so many training images; all by default")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="networks an optimizer, one after the other")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a tiny network on generated images, in seconds")
    options = parser.parse_args(given)
    known = RECIPES[options.recipe].optimizers
    options.optimizers = options.optimizers or list(known)
    for name in options.optimizers:
        if name not in known:
            parser.error(f"--optimizers: no {name!r} in the recipe {options.recipe!r} ({', '.join(known)})")
    for name, value in sizes(options).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.out = options.out or Path("results/cifar10-smoke" if options.smoke else "results/cifar10")
    return options


def main(given: list[str] | None = None) -> None:
    """Train, then print the table beside the published one."""
    options = arguments(given)
    recipe = RECIPES[options.recipe]
    with tempfile.TemporaryDirectory() as folder:
        if options.smoke:
            generate(Path(folder))
            options.folder = folder
        try:
            histories = compare(options)
        except (MissingData, ValueError) as error:
            raise SystemExit(f"cifar10_optimizers: {error}") from error
    print(table(recipe, histories))
    if options.smoke:
        print("generated images and a tiny network: these accuracies say nothing of CIFAR-10")
    elif all(getattr(options, name) == value for name, value in sizes(options).items()):
        print(verdicts(recipe, histories))
    else:
        print("not the recipe's own sizes: the published accuracies are of others")


if __name__ == "__main__":
    main()
