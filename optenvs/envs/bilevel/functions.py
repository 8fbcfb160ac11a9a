"""A user's own two levels: :func:`bilevel_from_functions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optenvs.core.given import check_settings

from .user import BilevelFunctions


def bilevel_from_functions(
    upper: Callable[..., Tensor],
    lower: Callable[..., Tensor],
    *,
    x: Any,
    y: Any,
    equality: Callable[..., Tensor] | None = None,
    inequality: Callable[..., Tensor] | None = None,
    project: Callable[..., Any] | Mapping[str, Callable[..., Any]] | str | None = None,
    solution: Callable[..., Any] | None = None,
    samples: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    **keywords: Any,
) -> BilevelFunctions:
    """An environment of two levels from torch functions of one instance: ledger, faces, checker inherited.

    The functions see one ``x`` (n,) and one ``y`` (m,), and are vectorised over instances by
    ``torch.func.vmap``. Answers of another floating dtype are cast to that of the environment.

    Newton's method finds points that fulfil the first-order conditions. Where the lower level curves down
    from one (along the constraints), or a feasible y that is asked is lower, it is no minimum, and the metric
    ``unsolved`` is 1, as where none is found: there the merit is infinite and nothing is earned. Other
    minima of a lower level that is not convex are not looked for.

    Without constraints, with the lower problem solved by Newton's method for the metrics::

        >>> import torch, optenvs, agents
        >>> A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
        >>> def lower(x, y):
        ...     return y @ A @ y / 2 - x @ y
        >>> def upper(x, y):
        ...     return ((y - 1) ** 2).sum() + 0.1 * (x**2).sum()
        >>> env = optenvs.bilevel_from_functions(upper, lower, x=2, y=2)
        >>> run = optenvs.rollout(env, agents.Hypergradient(), steps=60)
        >>> bool(run.metrics["residual"][-1].max() < 1e-6)
        True

    With constraints, of which equalities are affine, so that projections follow::

        >>> env = optenvs.bilevel_from_functions(upper, lower, x=[1.0, 1.0], y=[0.0, 0.0],
        ...     equality=lambda x, y: (x + y).sum().reshape(1), project="affine")
        >>> run = optenvs.rollout(env, agents.LVHBA(), steps=20)

    With mini-batches: ``samples`` of either level (a tensor, or a tuple or dict of them, samples first) are
    that function's third argument; each query is answered on ``batch_size`` of them, drawn anew, and judged
    on all::

        >>> data = torch.randn(50, 2, dtype=torch.float64)
        >>> env = optenvs.bilevel_from_functions(upper, lambda x, y, own: ((own @ y - own @ x) ** 2).mean(),
        ...     x=2, y=2, samples={"lower": data}, batch_size=8)

    Args:
        upper: ``F(x, y) -> scalar``, or ``F(x, y, samples)``.
        lower: ``f(x, y) -> scalar``, or with samples.
        x: how many upper variables there are, which then begin at standard normal numbers; or their start.
        y: the same of lower variables.
        equality: ``h(x, y) -> (p,)``, which the lower problem wants to be 0.
        inequality: ``g(x, y) -> (p,)``, which it wants to be <= 0; its multipliers come after those of ``h``.
        project: what agents may project onto. A function ``(x, y) -> (x, y)``, onto C, the pairs that are
            feasible (without constraints X times Y); several by name: ``upper`` (x -> x, onto X), ``lower``
            (y -> y, onto Y), ``joint`` ((x, y) -> (x, y), onto C), ``feasible`` ((x, y) -> y, onto the
            lower points feasible at x); ``"affine"``: both of the latter from the equalities, which are
            affine. Without it X and Y are whole spaces, and an agent that needs another projection says so.
        solution: ``y*(x) -> (m,)``, or ``(y, multipliers)``, where it is known; torch differentiates it. It
            is tried where episodes begin; where a feasible y that is asked is lower, ``unsolved`` tells it.
            Without multipliers they are 0.
        samples: by ``upper`` and ``lower``, see above.
        batch_size: how many of them answer a query; all by default.
        **keywords: ``solver``: ``"auto"`` is Newton's method on the lower conditions (unique solutions,
            convex problems) where there are at most 256 variables and constraints and Y is the whole space,
            ``"newton"`` whatever their number (an error where Y is not the whole space, and beside
            ``solution``), ``None`` never: the merit then is F + lower_residual + infeasibility, and nothing
            is called solved. ``evaluation_period``: how often what rests on Newton's method is measured.
            ``minimum``: the least Phi, if known, where lower solutions are. ``smoothness``: ``upper``,
            ``lower``, ``convexity``, ``jacobian``, what agents are told for their step sizes (by default
            curvatures at the start). ``bound``: r of the multipliers' box; none by default. And ``budget``,
            ``tolerance``, ``reward``, ``device``, ``dtype``.

    Raises:
        ValueError: a function that cannot be called on such points or differentiated, with the cause; an
            objective that is no scalar; a constraint that returns a scalar; more equalities than lower
            variables; a lower level that does not see x; what is not finite at the start; a function that
            writes into its arguments, or answers no floating numbers; one of which torch's derivatives (the
            second ones, too, but for ``upper``) are not those of its values, as central differences at a few
            points tell: a part of it is detached; a ``solution`` that is none; more samples a batch than
            there are; ``solver="newton"``, ``minimum``, ``evaluation_period`` or a ``tolerance`` where it
            would have no effect.
    """
    own = ("outer_function", "inner_function")
    check_settings("bilevel_from_functions", keywords, BilevelFunctions, own)
    return BilevelFunctions(
        outer_function=upper,
        inner_function=lower,
        x=_size_or_start(x),
        y=_size_or_start(y),
        equality=equality,
        inequality=inequality,
        project=project,
        solution=solution,
        samples=samples,
        batch_size=batch_size,
        **keywords,
    )


def _size_or_start(given: Any) -> Any:
    """A number as it is, a start as a tuple."""
    if isinstance(given, list | tuple | np.ndarray | Tensor):
        flat = torch.as_tensor(given).detach().cpu().double()
        return tuple(flat.tolist()) if flat.ndim == 1 else given
    return given
