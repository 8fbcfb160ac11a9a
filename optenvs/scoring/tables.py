"""Tables of tuned Adam: shipped for published splits, computed and kept for all others.

``python -m optenvs.scoring SPLIT`` makes one that is shipped; a file carries a checksum over its content,
what its split was declared with, and the seconds that it took. The table of a split without a file is
computed at its first score and kept in the folder ``OPTENVS_CACHE``, by default ``optenvs`` in the user's
folder of caches.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from optenvs import second_name
from optenvs.core.env import OptimizationEnv
from optenvs.core.rollout import rollout
from optenvs.core.sealed import read_tensors, write_tensors

from .normaliser import POINTS, AdamSteps, counted, lower_envelope, sampled, smooth
from .progress import Bar
from .splits import SEEDS, Scored

REACH = 4
"""Adam runs so many times as long as a split lasts: a speed-up of more cannot be told."""
RATES = tuple(10 ** (half / 2) for half in range(-8, 2))
"""Learning rates of the grid, 1e-4 to 3.16 in halves of a decade. Only where steps across basins help
(``StyblinskiTang``) is the largest the best."""
_FORMAT = "optenvs-adam-1"
_SCRIPT = "python -m optenvs.scoring"
_PLACE = resources.files("optenvs.scoring") / "tables"


@dataclass(frozen=True, eq=False)
class AdamTable:
    """What tuned Adam reaches on a split.

    Attributes:
        envelopes: of each shape class, ``(C, 512)``, from step 0 to ``length``.
        finals: the smoothed mean loss of each rate at the split's last step, ``(C, R)``.
        rates: the learning rates, ``(R,)``.
        length: Adam's steps.
        seconds: that it took to compute.
    """

    envelopes: Float64[Tensor, "C P"]
    finals: Float64[Tensor, "C R"]
    rates: Float64[Tensor, "R"]
    length: int
    seconds: float

    @property
    def scales(self) -> tuple[AdamSteps, ...]:
        """The normaliser of each shape class."""
        return tuple(AdamSteps(row, self.length) for row in self.envelopes)

    @property
    def tuned(self) -> tuple[float, ...]:
        """Of each shape class the rate with the least loss at the split's last step."""
        return tuple(self.rates[self.finals.argmin(1)].tolist())

    def save(self, path: str | os.PathLike[str], scored: Scored) -> None:
        """Write it to one file (safetensors) under a checksum, atomically."""
        tensors = {name: getattr(self, name).clone() for name in ("envelopes", "finals", "rates")}
        told = {"split": scored.name, "of": declaration(scored), "torch": torch.__version__}
        numbers = {"length": str(self.length), "seconds": f"{self.seconds:.1f}"}
        write_tensors(path, tensors, {"format": _FORMAT, **told, **numbers})

    @classmethod
    def load(cls, path: str | os.PathLike[str], scored: Scored) -> AdamTable:
        """The table that :meth:`save` wrote.

        Raises:
            ValueError: it is damaged, or of a split that was declared otherwise.
        """
        metadata, tensors = read_tensors(path, _FORMAT)
        if metadata["of"] != declaration(scored):
            raise ValueError(f"it is of a split {metadata['split']!r} that was declared otherwise")
        return cls(**tensors, length=int(metadata["length"]), seconds=float(metadata["seconds"]))


def declaration(scored: Scored) -> str:
    """A digest of all that a table depends on."""
    return scored.fingerprint(rates=RATES, reach=REACH, seeds=SEEDS, points=POINTS)


def computed(scored: Scored, progress: bool = True) -> AdamTable:
    """Run Adam over the grid on all shape classes of a split."""
    begun = time.perf_counter()
    length = REACH * scored.steps
    tasks = scored.lifetimes(length, "float64", "cpu")
    with Bar(f"Adam's table of {scored.name}", length * len(tasks), shown=progress) as bar:
        found = [_tuned(task, scored, length, bar) for task in tasks]
    envelopes, finals = (torch.stack(part) for part in zip(*found, strict=True))
    rates = torch.tensor(RATES, dtype=torch.float64)
    return AdamTable(envelopes, finals, rates, length, time.perf_counter() - begun)


def _tuned(task: OptimizationEnv, scored: Scored, length: int, bar: Bar) -> tuple[Tensor, Tensor]:
    """The envelope of one shape class, and the losses of all rates where the split ends."""
    agents = importlib.import_module(second_name.NAME)
    keys = scored.keys(task.torch_device).repeat(len(RATES))
    rates = torch.tensor(RATES, dtype=torch.float64).repeat_interleave(SEEDS)
    run = rollout(task, agents.Adam(lr=rates), keys=keys, on_step=bar.step)
    losses, _ = counted(run, length, next(iter(task.bill.values())))
    curves = smooth(losses.unflatten(1, (len(RATES), SEEDS)).mean(2))
    return sampled(lower_envelope(curves)), curves[scored.steps]


def shipped(name: str) -> Path:
    """The file of a published split's table."""
    return Path(str(_PLACE / f"{name}.safetensors"))


def cache() -> Path:
    """The folder of the tables that were computed here."""
    own = os.environ.get("OPTENVS_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "optenvs"


def table_of(scored: Scored, progress: bool = True) -> AdamTable:
    """The table of a split: the shipped one, one that was computed before, or a new one.

    Raises:
        ValueError: the shipped file is damaged or out of date.
    """
    if scored.published and shipped(scored.name).is_file():
        return _of_package(scored)
    path = cache() / f"adam-{declaration(scored)[:24]}.safetensors"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # or it is computed anew
        return AdamTable.load(path, scored)
    made = computed(scored, progress)
    with contextlib.suppress(OSError):  # where nothing can be kept, the score is as good
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path, scored)
    return made


def _of_package(scored: Scored) -> AdamTable:
    name = scored.name
    try:
        return AdamTable.load(shipped(name), scored)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"split {name!r}: its table {shipped(name).name} cannot be used ({error}); install again, or "
            f"make it with {_SCRIPT} {name}"
        ) from error


def report(path: Path, scored: Scored) -> str:
    """A table in a line of JSON: its best rates at the split's last step, its size, the seconds it took."""
    table = AdamTable.load(path, scored)
    told = dict(zip(scored.labels, (float(f"{rate:.3g}") for rate in table.tuned), strict=True))
    return json.dumps(
        {"split": scored.name, "seconds": table.seconds, "bytes": path.stat().st_size, "lr": told}
    )
