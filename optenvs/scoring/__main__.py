"""Compute the tables that the package ships: ``python -m optenvs.scoring [SPLIT ...] [--out FOLDER]``.

Each says the seconds that it took: of processor time about 10 for ``quadratics`` and ``functions``, a minute
for ``networks``, five times as many for longer horizons. The same numbers come out to rounding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .splits import list_splits, published
from .tables import computed, report, shipped


def main(arguments: list[str] | None = None) -> None:
    """Compute, write, say what it was."""
    parser = argparse.ArgumentParser(
        prog="python -m optenvs.scoring", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("splits", nargs="*", metavar="SPLIT", help="all by default")
    parser.add_argument(
        "--out", type=Path, default=shipped("x").parent, help="in place of the package's folder"
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.splits) - set(list_splits()))
    if unknown:
        parser.error(f"no split {unknown[0]!r}; there are {', '.join(list_splits())}")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.splits or list_splits():
        path, scored = options.out / f"{name}.safetensors", published(name)
        computed(scored).save(path, scored)
        print(report(path, scored), flush=True)


if __name__ == "__main__":
    main()
