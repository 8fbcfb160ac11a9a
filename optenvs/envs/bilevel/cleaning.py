"""Wrong labels found out: penalties of training samples by the loss on clean ones (LV-HBA, section 4).

The two levels are those of :mod:`~optenvs.envs.bilevel.svm`. Each training label is turned with probability
p, those of the validation samples are right, so that the upper level learns to give wrong samples small
penalties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.random import Keys, uniform

from .parts import Own
from .svm import BilevelSvm


@dataclass(frozen=True, eq=False, kw_only=True)
class BilevelCleaning(BilevelSvm):
    """Log penalties of training samples, some of which have the wrong label: digits 4 against 9.

    Args:
        flip: p, the probability that a training label is wrong.
        data, folder, classes, train, validation, standardise, low, high, start, bound, evaluation_period: see
            :class:`~optenvs.envs.bilevel.svm.BilevelSvm`. The paper's set, gisette_scale, is a LIBSVM file.
        tolerance, budget, reward, device, dtype: see :class:`~optenvs.envs.bilevel.base.Bilevel`.
    """

    flip: float = 0.4
    data: Any = "digits"
    classes: tuple[int, int] | None = (4, 9)
    train: int = 150
    validation: int = 75

    meanings: ClassVar[dict[str, str]] = {
        "flipped": "share of the training labels that are wrong",
        "detection": "share of pairs of a wrong and a right label in which the wrong has the smaller penalty",
    }

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip: expected a probability, got {self.flip!r}")
        super().__post_init__()

    def labels(self, keys: Keys, signs: Float[Tensor, "B N"]) -> tuple[Tensor, Bool[Tensor, "B N"]]:
        flipped = uniform(keys, "flips", self.train, dtype=torch.float64) < self.flip
        return torch.where(flipped, -signs, signs), flipped

    def measure(
        self, own: Own, best: Any, x: Tensor, y: Tensor, F: Tensor, f: Tensor, solution: Any = None
    ) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        merit, metrics = super().measure(own, best, x, y, F, f, solution)
        flipped = own.data.flipped
        return merit, metrics | {
            "flipped": flipped.to(x.dtype).mean(-1),
            "detection": detection(x, flipped),
        }


def detection(x: Float[Tensor, "B N"], flipped: Bool[Tensor, "B N"]) -> Float[Tensor, "B"]:
    """The area under the curve of true against false alarms, where small x raise the alarm.

    Of rows in which all labels are right, or all wrong, 1/2.
    """
    order = x.argsort(-1)
    ordered, wrong = x.gather(1, order), flipped.gather(1, order).to(x.dtype)
    first, last = (torch.searchsorted(ordered, ordered, right=right) for right in (False, True))
    rank = (first + last - 1).to(x.dtype) / 2  # the mean rank of equal numbers, 0 for the smallest
    few = wrong.sum(-1)
    many = wrong.shape[-1] - few
    above = (rank * wrong).sum(-1) - few * (few - 1) / 2  # pairs in which the right sample has less
    share = 1 - above / (few * many).clamp_min(1)
    return torch.where(few * many > 0, share, 0.5)
