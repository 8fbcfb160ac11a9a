"""DADAO: accelerated, asynchronous, with communications apart from gradients (Nabli and Oyallon 2023).

Node i has six vectors. With nu = mu / 2 they follow between its events, without communication,

    x' = eta (xt - x)          y'  = alpha (yt - y)               z'  = alpha (zt - z)
    xt' = eta (x - xt)         yt' = -theta (y + z + nu xt)       zt' = alpha_t (z - zt)

    its gradient g at x:            r = g - nu x - yt;    x -= gamma r,  xt -= gamma_t r,  yt += delta r
    an exchange of y + z with j:    m = (y + z)_i - (y + z)_j;    z -= beta m,  zt -= beta_t m

with the constants (numbers of the paper, and of the authors' code)

    eta = sqrt(nu/L) / 8    alpha = sqrt(nu/L) / 4    alpha_t = sqrt(nu/L) / 8    theta = sqrt(L/nu) / 2
    gamma = 1 / (4 L)       gamma_t = 1 / (4 sqrt(L nu))            delta = 1 + sqrt(nu/L) / 4
    beta = 1/2              beta_t = 2 chi_1 sqrt(L/nu)             chi_1 of the Laplacian of the rates

E |x_i - x*|^2 then falls like exp(-t sqrt(mu/L) / (8 sqrt 2)) on every graph whose rates have
chi_1 chi_2 <= 1/2. Two sums over the nodes stay 0 at any common time: of z, and of zt.

The flow is integrated exactly, in coordinates in which it is a product: see :func:`coordinates`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..core import Observation, by_row, require
from ._events import EXCHANGE, GRADIENT, AsynchronousAgent, announced, query

VARIABLES = ("x", "xt", "y", "yt", "z", "zt")
_X, _XT, _Y, _YT, _Z, _ZT = range(6)


@struct
class DADAOState:
    """DADAO's memory: the nodes' vectors, and the constants of the instance.

    Attributes:
        modes: the six vectors of each node at the time of its last event, in the coordinates of the flow:
            two that stay, two that fade, two that turn and fade, ``(B, 6, N, d)``.
        said: nu x + yt and y + z at that time, of which an answer is taken, ``(B, 2, N, d)``.
        basis: the vectors' coefficients in the modes, ``(B, 6, 6)``.
        shown: those of nu x + yt and y + z which are not 0, 1, -1 or 1/2, see :func:`spoken`.
        descent, gossip: what the residual of a gradient and of a message adds to the modes, ``(B, 6, 1, 1)``.
        fading: the rates at which the last four modes fade, with opposite sign, ``(B, 3, 1, 1)``.
        turning: the frequency of the last two, ``(B, 1, 1, 1)``.
        total, count: sum and number of the published iterates, ``(B, N, d)`` and ``(B, N, 1)``; or None.
    """

    modes: Float[Tensor, "B 6 N d"]
    said: Float[Tensor, "B 2 N d"]
    basis: Float[Tensor, "B 6 6"]
    shown: dict[str, Float[Tensor, "B 1 1"]]
    descent: Float[Tensor, "B 6 1 1"]
    gossip: Float[Tensor, "B 6 1 1"]
    fading: Float[Tensor, "B 3 1 1"]
    turning: Float[Tensor, "B 1 1 1"]
    total: Float[Tensor, "B N d"] | None
    count: Int64[Tensor, "B N 1"] | None

    @property
    def variables(self) -> dict[str, Float[Tensor, "B N d"]]:
        """The six vectors of each node, at the time of its last event."""
        values = (self.basis @ self.modes.flatten(2)).view_as(self.modes)
        return dict(zip(VARIABLES, values.unbind(1), strict=True))


@dataclass(frozen=True, eq=False)
class DADAO(AsynchronousAgent):
    """DADAO.

    Args:
        eta, alpha, alpha_t, theta, gamma, gamma_t, delta, beta, beta_t: factors on the constants above, whose
            proof needs 1: a number, or a tensor ``(B,)`` for the instances.
        running_average: publish the mean of the iterates that a node had when its events came, as the authors
            do with stochastic gradients.
    """

    eta: float | Float[Tensor, "B"] = 1.0
    alpha: float | Float[Tensor, "B"] = 1.0
    alpha_t: float | Float[Tensor, "B"] = 1.0
    theta: float | Float[Tensor, "B"] = 1.0
    gamma: float | Float[Tensor, "B"] = 1.0
    gamma_t: float | Float[Tensor, "B"] = 1.0
    delta: float | Float[Tensor, "B"] = 1.0
    beta: float | Float[Tensor, "B"] = 1.0
    beta_t: float | Float[Tensor, "B"] = 1.0
    running_average: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "running_average":
                value = torch.as_tensor(getattr(self, field.name))
                require(self, field.name, ((value > 0) & value.isfinite()).all(), "a finite number > 0")
        # alpha < 4 theta, so that y oscillates, holds for every mu <= L below this ratio
        ratio = torch.as_tensor(self.alpha) / torch.as_tensor(self.theta)
        require(self, "alpha", (ratio < 16).all(), "less than 16 times theta")

    def constants(self, problem: Any) -> dict[str, Float[Tensor, "B"]]:
        """The constants for a problem with ``mu``, ``L`` and ``chi1``, in float64."""
        nu, L, chi1 = problem.mu.double() / 2, problem.L.double(), problem.chi1.double()
        root = (nu / L).sqrt()
        values = {
            "eta": root / 8,
            "alpha": root / 4,
            "alpha_t": root / 8,
            "theta": 1 / (2 * root),
            "gamma": 1 / (4 * L),
            "gamma_t": 1 / (4 * (L * nu).sqrt()),
            "delta": 1 + root / 4,
            "beta": torch.full_like(nu, 0.5),
            "beta_t": 2 * chi1 / root,
        }
        for name, value in values.items():
            values[name] = (value.unsqueeze(-1) * by_row(name, getattr(self, name), nu)).squeeze(-1)
        return {"nu": nu} | values

    def init(self, problem: Any, observation: Observation, keys: Keys) -> DADAOState:
        point = observation["point"]
        constants = self.constants(problem)
        basis, fading, turning = coordinates(constants)
        jumps = torch.zeros_like(basis[:, :, :2])
        jumps[:, _X, 0], jumps[:, _XT, 0] = -constants["gamma"], -constants["gamma_t"]
        jumps[:, _YT, 0] = constants["delta"]
        jumps[:, _Z, 1], jumps[:, _ZT, 1] = constants["beta"], constants["beta_t"]
        nu = constants["nu"]
        offset = nu.unsqueeze(-1) * basis[:, _X] + basis[:, _YT]
        message = basis[:, _Y] + basis[:, _Z]
        shown = {
            "sine": offset[:, 5],
            "offset_x": offset[:, 2],
            "offset_z": offset[:, 3],
            "still": message[:, 0],
            "message_x": message[:, 2],
            "message_z": message[:, 3],
        }
        jumps = torch.linalg.solve(basis, jumps).to(point)
        nothing = torch.zeros_like(point)
        made = DADAOState(
            modes=nothing.unsqueeze(1).repeat(1, 6, 1, 1),
            said=nothing.unsqueeze(1).repeat(1, 2, 1, 1),
            basis=basis.to(point),
            shown={name: value.to(point).reshape(-1, 1, 1).clone() for name, value in shown.items()},
            descent=jumps[:, :, :1, None].contiguous(),  # as they come back from a file, to the last bit
            gossip=jumps[:, :, 1:, None].contiguous(),
            fading=-fading.to(point)[..., None, None],
            turning=turning.to(point)[:, None, None, None],
            total=nothing if self.running_average else None,
            count=torch.zeros_like(observation["event"]) if self.running_average else None,
        )
        return with_variables(made, {"x": point})

    def act(self, state: DADAOState, observation: Observation) -> tuple[dict[str, Tensor], DADAOState]:
        # 1. the answer to the last event: a residual times a fixed jump
        heard = torch.stack((observation["gradient"], observation["message"][:, :, 0]), 1)
        kinds = torch.arange(GRADIENT, EXCHANGE + 1, device=heard.device).view(2, 1, 1)
        answers = observation["answered"].unsqueeze(1) == kinds
        residual = (heard - state.said) * answers
        modes = torch.addcmul(state.modes, state.descent, residual[:, :1])
        modes = torch.addcmul(modes, state.gossip, residual[:, 1:])
        before = modes[:, 0] + modes[:, 2]  # x
        # 2. the flow to the coming event
        modes = flow(modes, observation["elapsed"].unsqueeze(1), state.fading, state.turning)
        now = modes[:, 0] + modes[:, 2]
        said = spoken(modes, state.shown)
        state = replace(state, modes=modes, said=said)
        if state.total is None or state.count is None:
            return query(observation, now, said[:, 1], before, now), state
        event = announced(observation, GRADIENT) | announced(observation, EXCHANGE)
        total, count = state.total + torch.where(event, before, 0.0), state.count + event
        mean = torch.where(count > 0, total / count.clamp_min(1), before)
        return query(observation, now, said[:, 1], mean, mean), replace(state, total=total, count=count)


def with_variables(state: DADAOState, given: dict[str, Float[Tensor, "B N d"]]) -> DADAOState:
    """The same memory with these of the six vectors, and zero for the others."""
    nothing = torch.zeros_like(state.modes[:, 0])
    values = torch.stack([given.get(name, nothing) for name in VARIABLES], 1)
    modes = torch.linalg.solve(state.basis, values.flatten(2))
    modes = modes.contiguous().view_as(state.modes)  # the solver lays it out by columns
    return replace(state, modes=modes, said=spoken(modes, state.shown))


def spoken(modes: Float[Tensor, "B 6 N d"], shown: dict[str, Float[Tensor, "B 1 1"]]) -> Tensor:
    """What a node is asked for, nu x + yt and y + z, ``(B, 2, N, d)``.

    Sums with one factor an instance: products of matrices as small as these are slower by far.
    """
    stay_x, stay_z, fade_x, fade_z, cosine, sine = modes.unbind(1)
    offset = torch.addcmul(torch.add(-stay_z, cosine, alpha=0.5), sine, shown["sine"])
    offset = torch.addcmul(torch.addcmul(offset, fade_x, shown["offset_x"]), fade_z, shown["offset_z"])
    message = torch.addcmul(cosine, stay_x, shown["still"])
    message = torch.addcmul(torch.addcmul(message, fade_x, shown["message_x"]), fade_z, shown["message_z"])
    return torch.stack((offset, message), 1)


def flow(
    modes: Float[Tensor, "B 6 N d"],
    elapsed: Float[Tensor, "B 1 N 1"],
    fading: Float[Tensor, "B 3 1 1"],
    turning: Float[Tensor, "B 1 1 1"],
) -> Float[Tensor, "B 6 N d"]:
    """The modes after this time; bit for bit as they were where it is 0."""
    shrunk, angle = (fading * elapsed).exp(), turning * elapsed
    damping = shrunk[:, 2:]
    along, across = damping * angle.cos(), damping * angle.sin()
    first, second = modes[:, 4:5], modes[:, 5:]
    turned = torch.addcmul(first * along, second, across)
    other = torch.addcmul(second * along, first, across, value=-1)
    return torch.cat((modes[:, :2], modes[:, 2:4] * shrunk[:, :2], turned, other), 1)


def coordinates(
    constants: dict[str, Float[Tensor, "B"]],
) -> tuple[Float[Tensor, "B 6 6"], Float[Tensor, "B 3"], Float[Tensor, "B"]]:
    """Coordinates in which the flow is a product, and the six vectors' coefficients in them.

    The mean of x and xt, and a mean of z and zt, stay; their differences fade at the rates 2 eta and
    alpha + alpha_t. All four drive the pair y, yt; what is left of it is a damped oscillation (a, b),

        a(t) = e^(-alpha t / 2) (a cos wt + b sin wt),   b(t) = e^(-alpha t / 2) (b cos wt - a sin wt),

    w^2 = alpha theta - alpha^2 / 4.

    Returns:
        The matrix whose rows are x, xt, y, yt, z, zt and whose columns are the modes: the two that stay, the
        two that fade, a and b; the three rates of fading, the last one that of a and b; and w.
    """
    nu, eta, alpha, alpha_t, theta = (constants[n] for n in ("nu", "eta", "alpha", "alpha_t", "theta"))
    rates = torch.stack((2 * eta, alpha + alpha_t, alpha / 2), -1)
    frequency = (alpha * theta - alpha**2 / 4).sqrt()
    basis = nu.new_zeros(len(nu), 6, 6)
    share = alpha / (alpha + alpha_t)
    basis[:, _X, 0], basis[:, _XT, 0] = 1.0, 1.0
    basis[:, _X, 2], basis[:, _XT, 2] = 1.0, -1.0
    basis[:, _Z, 1], basis[:, _ZT, 1] = 1.0, 1.0
    basis[:, _Z, 3], basis[:, _ZT, 3] = share, share - 1
    # where z + nu xt = h e^(-k t), y = p e^(-k t) and yt = p (1 - k / alpha) e^(-k t) solve the pair
    for mode, rate in ((0, None), (1, None), (2, rates[:, 0]), (3, rates[:, 1])):
        drive = basis[:, _Z, mode] + nu * basis[:, _XT, mode]
        k = torch.zeros_like(nu) if rate is None else rate
        p = -drive * alpha * theta / (alpha * theta - alpha * k + k**2)
        basis[:, _Y, mode], basis[:, _YT, mode] = p, p * (1 - k / alpha)
    basis[:, _Y, 4] = 1.0
    basis[:, _YT, 4], basis[:, _YT, 5] = 0.5, frequency / alpha  # yt = y + y' / alpha
    return basis, rates, frequency


def rate_bound(mu: float, L: float) -> float:
    """The exponent sqrt(mu / L) / (8 sqrt 2) that the theorem promises for E |x_i - x*|^2."""
    return math.sqrt(mu / L) / (8 * math.sqrt(2))
