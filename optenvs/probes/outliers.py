"""How many eigenvalues stand out of the bulk (Sagun et al. 2018, appendix A)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Rule = Literal["ratio", "gap", "heuristic"]
RULES = ("ratio", "gap", "heuristic")


def outliers(
    values: Float[Tensor, "B n"],
    rule: Rule = "ratio",
    *,
    classes: int | None = None,
    cut: float | None = None,
) -> Int64[Tensor, "B"]:
    """How many of the eigenvalues are outliers.

    Args:
        values: eigenvalues, in any order; all, or the largest.
        rule: ``"ratio"``: the j of the largest ``e_j / e_(j+1)`` with ``e_(j+1) > 0``; ``"gap"``: of the
            largest ``e_j - e_(j+1)``; ``"heuristic"``: how many exceed ``cut``.
        classes: k; then the ratio is sought among ``ceil(k/2) <= j <= 2 k`` only, without which a ratio
            between the first few often wins. It takes ``2 k + 1`` eigenvalues to look at all.
        cut: of the heuristic rule, and of it alone.

    Returns:
        The count, ``(B,)``; -1 where a row has numbers that are none, or no j the rule may take.

    Raises:
        ValueError: fewer than two eigenvalues, an unknown rule, or an argument which the rule does
            not have or lacks.
    """
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"values: expected (B, n) with n >= 2, got {tuple(values.shape)}")
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
    if (cut is not None) != (rule == "heuristic"):
        raise ValueError(f"cut: the heuristic rule needs one and no other takes one, got {cut!r} for {rule}")
    if classes is not None and (rule != "ratio" or classes < 2):
        raise ValueError(f"classes: expected >= 2, for the ratio rule alone, got {classes!r} for {rule}")
    known = values.isfinite().all(1)
    e = values.nan_to_num().sort(1, descending=True).values
    if cut is not None:
        return torch.where(known, (e > cut).sum(1), -1)
    upper, lower = e[:, :-1], e[:, 1:]
    if rule == "gap":
        return torch.where(known, (upper - lower).argmax(1) + 1, -1)
    allowed = lower > 0
    if classes is not None:
        j = torch.arange(1, e.shape[1], device=e.device)
        allowed = allowed & (j >= math.ceil(classes / 2)) & (j <= 2 * classes)
    ratio = torch.where(allowed, upper / lower, -torch.inf)
    return torch.where(known & allowed.any(1), ratio.argmax(1) + 1, -1)
