"""Polarized consensus-based optimization, for several minimizers (Bungert, Roith, Wacker 2022).

Each particle is drawn to a consensus of its own, in which near particles weigh more:

    c_i <- sum over j of k(X_i, X_j) exp(-alpha E_j) X_j, normalised

with, for the distance r, the kernels ``gaussian`` exp(-r^2 / (2 kappa^2)), ``laplace`` exp(-r / kappa),
``inverse_quadratic`` 1 / (1 + (r / kappa)^2) and ``constant`` (1 up to kappa, 0 beyond). An infinite kappa is
plain consensus-based optimization. Time and memory grow with the square of the number of particles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import require
from ._consensus import Number, Scale, best, excess, positive
from .cbo import CBO

KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    # minus the logarithm of the kernel at the distance r / kappa
    "gaussian": lambda r: r * r / 2,
    "laplace": lambda r: r,
    "inverse_quadratic": lambda r: torch.log1p(r * r),
    "constant": lambda r: torch.where(r <= 1, 0.0, torch.inf),
}
MODES = ("alpha", "const")


@dataclass(frozen=True, eq=False)
class PolarizedCBO(CBO):
    """Polarized consensus-based optimization; it recommends the consensus of its best particle.

    The defaults are those of the paper's product of Rastrigin functions.

    Args:
        kernel: ``gaussian``, ``laplace``, ``inverse_quadratic`` or ``constant``.
        kappa: its width.
        kernel_factor_mode: ``alpha`` raises the kernel to the power ``alpha``, ``const`` leaves it.
        lambda_, sigma, alpha, dt, noise, noise_after_drift, truncation, gradient_drift, alpha_schedule,
            sigma_schedule, effective, effective_limits, batch_size, partial, kick, limit: see
            :class:`~agents.particles.cbo.CBO`.
    """

    sigma: Number = 1.0
    alpha: Number = 1.0
    kernel: str = "gaussian"
    kappa: float = 0.5
    kernel_factor_mode: str = "alpha"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "kernel", self.kernel in KERNELS, " or ".join(KERNELS))
        require(self, "kernel_factor_mode", self.kernel_factor_mode in MODES, " or ".join(MODES))
        positive(self, "kappa")

    def consensus(
        self, points: Tensor, everyone: Tensor, values: Tensor, alpha: Scale
    ) -> tuple[Float[Tensor, "B n d"], Float[Tensor, "B d"]]:
        # no matrix product: it would lose the distances of particles that are close to each other
        distance = torch.cdist(points, everyone, compute_mode="donot_use_mm_for_euclid_dist")
        cost = KERNELS[self.kernel](distance / self.kappa)
        # finite, so that a particle without a value and without a neighbour that has one stays where it is
        most = torch.finfo(values.dtype).max / 4
        energy = (alpha * excess(values)).clamp(max=most).unsqueeze(1)
        if self.kernel_factor_mode == "alpha":
            cost = cost * (alpha.unsqueeze(-1) if isinstance(alpha, Tensor) else alpha)
        centres = torch.softmax(-cost - energy, -1) @ everyone
        # an agent that moves its own particle only has the consensus of that one only
        return centres, best(centres if points is everyone else everyone, values)
