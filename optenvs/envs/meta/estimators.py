"""Gradients of a loss over long episodes, from windows of them that antithetic pairs have played.

    full and truncated ES    g = e (L+ - L-) / (2 s^2)
    PES                      g = (A+ L+ - A- L-) / (2 s^2),   A <- A + e with every window

A pair's members have the weights theta + e and theta - e, with e ~ N(0, s^2 I); L is the loss that each of
them has summed over a window. Truncated ES draws both from one state at the window's start, which is what it
neglects of the past. Persistent evolution strategies (Vicol, Metz, Sohl-Dickstein 2021) keep a state for each
member, draw e anew in each window, and give credit for a loss to all perturbations of its episode so far, A:
unbiased but for the smoothing by s.

Where an episode ends inside a window, its losses are credited to A, those of the next to this window's e
alone, and A goes on from e. The members may end at different times; each has an A of its own.

    noise-reuse ES           g = (e+ L+ - e- L-) / (2 s^2),   e kept for an episode

Noise-reuse ES (Li, Harrison, Sohl-Dickstein, Smith, Metz 2023, arXiv 2304.12180; "ES-Single" is the same) is
unbiased, too, where an episode begins with a window.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.stepper import unset


def antithetic(
    plus: Float[Tensor, "P"], minus: Float[Tensor, "P"], noise: Float[Tensor, "P D"], std: float
) -> Float[Tensor, "P D"]:
    """Each pair's estimate by evolution strategies, full or truncated.

    Args:
        plus: losses at ``theta + noise``.
        minus: losses at ``theta - noise``.
        noise: the perturbations, with standard deviation ``std``.
        std: s.
    """
    return (plus - minus).unsqueeze(-1) * noise / (2 * std**2)


def single(losses: Float[Tensor, "2 P"], noise: Float[Tensor, "2 P D"], std: float) -> Float[Tensor, "P D"]:
    """Each pair's estimate where every member has the noise of its own episode.

    Args:
        losses: at ``theta + noise[0]`` and ``theta - noise[1]``.
        noise: the perturbations, equal while the members are in one episode.
        std: s.
    """
    credit = losses.unsqueeze(-1) * noise
    return (credit[0] - credit[1]) / (2 * std**2)


def shaped(
    estimate: Float[Tensor, "P D"],
    losses: Float[Tensor, "2 P"],
    clip: float | None,
    sign: bool,
) -> Float[Tensor, "P D"]:
    """The estimate as it would be of another difference of losses: cut off, or its sign alone.

    Args:
        estimate: of each pair, proportional to that difference where no episode ends within a window.
        losses: of the members, whole.
        clip: where the difference is cut off, or ``None``.
        sign: whether 1, 0 or -1 takes its place.
    """
    if clip is None and not sign:
        return estimate
    difference = losses[0] - losses[1]
    wanted = difference.sign() if sign else difference.clamp(-clip, clip)  # type: ignore[operator]
    factor = torch.where(difference == 0, 0.0, wanted / torch.where(difference == 0, 1.0, difference))
    return estimate * factor.unsqueeze(-1)


def persistent(
    losses: Float[Tensor, "2 W P"],
    since: Bool[Tensor, "2 W P"],
    noise: Float[Tensor, "P D"],
    carried: Float[Tensor, "2 P D"],
    std: float,
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "2 P D"]]:
    """Each pair's estimate by persistent evolution strategies, and the perturbations to carry on.

    Args:
        losses: of each turn of the window, of the members at ``theta + noise`` and ``theta - noise``; 0
            where a row rested.
        since: whether an episode had begun in the window by then (``Window.since``).
        noise: this window's perturbations, with standard deviation ``std``.
        carried: each member's perturbations in the windows of its present episode, summed; zeros at first.
            Both in the direction of ``noise``: the sign of the second member is in the formula.
        std: s.
    """
    whole, begun = carried + noise, since[:, -1]
    if unset(begun):
        credit = losses.sum(1).unsqueeze(-1) * whole
        return (credit[0] - credit[1]) / (2 * std**2), whole
    first = torch.where(since, 0, losses).sum(1).unsqueeze(-1)
    later = torch.where(since, losses, 0).sum(1).unsqueeze(-1)
    credit = first * whole + later * noise
    return (credit[0] - credit[1]) / (2 * std**2), torch.where(begun.unsqueeze(-1), noise, whole)
