"""Policy search: the weights of a policy are sought, and trajectories are what it costs.

* State: the instance (the task's constants, the first weights, the key) and the number of the query. The luck
  of a trajectory is drawn anew from key and number; none is kept.
* Query: the places ``x`` (n,) and ``second`` (n,), weights; ``vector`` (n,); ``recommendation`` (n,), the
  weights that the agent stands behind; and which kinds are wanted.
* Answer: ``policy_gradient``, the mean of g(tau, x) over ``trajectories`` drawn by x; ``product``, the mean
  of B(tau, second) vector over ``product_trajectories`` drawn by ``second``, and ``causal_product``, its form
  of less variance on the same ones; ``pair`` (2, n), the gradient at x and beside it that at ``second`` of
  the same trajectories, drawn by x, with per-decision importance weights; ``trajectory``, N trajectories
  drawn by x, see ``problem.unpacked``; ``return``, the mean sum of rewards of N trajectories drawn by x.
  The estimates are those of :mod:`optenvs.models.trajectories`. Kinds do not share luck with each other.
* Bill, row by row: 1 of each kind's own name (a batch counts once), ``trajectories``, the unit of a budget,
  and ``transitions``, the steps of all of them. Each trajectory counts once, whatever rests on it.

Metrics, unbilled: ``return``, the mean sum of rewards of the trajectories that the query was answered; of a
task whose J has a closed form, at the recommendation, ``value`` J and ``gap`` J* - J, and every
``evaluation_period`` queries ``slope``, the length of the exact gradient, and ``fisher``, the least
eigenvalue of the Fisher matrix; of the other tasks every ``evaluation_period`` queries ``mean_return``, over
``test_episodes`` of the instance's own that never change and are never billed. ``dropped`` is the share of
trajectories whose importance weights overflowed in the last ``pair``: they count as 0 there.

Merit: the gap; without a closed form minus ``mean_return``. A row one of whose answers is no finite number
has diverged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Instance, State
from optenvs.core.evaluations import Evaluations
from optenvs.core.given import check_choice, check_whole
from optenvs.core.measured import with_merit
from optenvs.core.menu import Judgement, Kind, MenuEnv, Query
from optenvs.core.offer import Function, Shape
from optenvs.core.oracles import hessian, value_and_gradient
from optenvs.core.random import Keys
from optenvs.models.policies import Categorical
from optenvs.models.trajectories import BASELINES, CREDITS, Estimator, Trajectories

from .hosted import Hosted
from .parts import Hidden, Problem
from .task import Task, check_number
from .tasks import OF_TASKS, make_task

_USUAL = {"trajectories": 1, "product_trajectories": 1, "credit": "absolute", "baseline": "none"}
_DRAWN = {"policy_gradient": "x", "pair": "x", "trajectory": "x", "return": "x", "product": "second"}
"""What draws trajectories, and the place that draws them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PolicySearch(MenuEnv):
    """Search of a policy's weights; see the module for what is asked and answered.

    Keywords that are ``None`` have the task's own value; one that the task has not is refused.

    Args:
        task: ``gauss_bandit`` (one action, closed forms), ``lqr`` (the linear-quadratic regulator),
            ``tabular`` (a random finite process), ``cartpole``, ``acrobot``, ``pendulum`` (Gymnasium's, in
            torch, with a neural policy), or the id of a Gymnasium task with continuous actions, as
            ``HalfCheetah-v5`` (on the host; MuJoCo's need ``gymnasium[mujoco]``).
        trajectories: N of an answer; 1, of simulated tasks 4.
        product_trajectories: those of a product; 1, of simulated tasks 2.
        credit: ``absolute``: step t is credited with what comes from it on, discounted from the start, which
            is unbiased; ``relative``: discounted from t, which is what is done in practice, and the default
            of simulated tasks.
        baseline: ``none``, or ``time``: less the mean credit of the step over the N trajectories of the row,
            ended ones counting as 0; the default of simulated tasks.
        reward_scale: what rewards are multiplied by in the answers, but not in the metrics; 1, of simulated
            tasks 1/episode_length.
        episode_length: the most steps of a trajectory: 1 of the bandit, 100 of lqr, 50 of tabular, 200 of
            cartpole and pendulum, 500 of acrobot and
            tasks of the host.
        discount: 1, 0.9, 0.9, and 0.99 of simulated tasks.
        dim: the bandit's dimension (2), coordinates of lqr's state (2), states of tabular (5).
        actions: coordinates of lqr's action (1), actions of tabular (3).
        std: of the actions of bandit and lqr (0.5); of the pendulum's and the host's, in place of one that is
            sought.
        branches: next states of each state and action of tabular (2).
        explore: the share of tabular's policy that is uniform (0): no action dies out with it.
        start_std: of tabular's first weights (0).
        widths: hidden layers of simulated tasks' policies (32, 32), of the host's (64, 64).
        data: the instance that is given: see :class:`~.bandit.GaussBandit`, :class:`~.lqr.Lqr`,
            :class:`~.tabular.Tabular`.
        test_episodes: held-out trajectories of simulated tasks (8).
        evaluation_period: queries between two measurements of what is dear, or their numbers, or ``None`` for
            the start alone.
        tolerance: the gap at which an episode is solved; of simulated tasks that to the largest return that
            their rewards allow.
        budget: a number counts ``trajectories``.
        reward, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    task: str = "gauss_bandit"
    trajectories: int | None = None
    product_trajectories: int | None = None
    credit: str | None = None
    baseline: str | None = None
    reward_scale: float | None = None
    episode_length: int | None = None
    discount: float | None = None
    dim: int | None = None
    actions: int | None = None
    std: float | None = None
    branches: int | None = None
    explore: float | None = None
    start_std: float | None = None
    widths: tuple[int, ...] | None = None
    data: Mapping[str, Any] | None = None
    test_episodes: int | None = None
    evaluation_period: Evaluations = 10
    dtype: str = "float64"

    first = ("policy_gradient",)
    unit = "trajectories"
    painter = "optenvs.envs.policy.picture:returns"
    meanings: ClassVar[Mapping[str, str]] = {
        "x": "the weights that draw trajectories, and at which they are differentiated",
        "second": "other weights: those of products, and those that a pair weighs trajectories for",
        "vector": "what the Hessian of J at the second weights is multiplied by",
        "recommendation": "the weights that the agent stands behind: they are judged, unbilled",
        "policy_gradient": "an estimate of the gradient of J at x, along which J grows",
        "product": "an estimate of the Hessian of J at the second weights times the vector",
        "causal_product": "the same without the scores of later steps",
        "pair": "estimates of the gradient at x and, by importance weights, at the second weights",
        "trajectory": "of each step what was seen and done, the reward, and whether it was part of it",
        "return": "the mean sum of rewards of some trajectories",
        "metric return": "the mean sum of rewards of the trajectories of this answer",
        "metric value": "J, the expected discounted sum of rewards",
        "mean_return": "the mean sum of rewards over held-out trajectories",
        "slope": "the length of the exact gradient of J",
        "fisher": "the least eigenvalue of the Fisher matrix",
        "dropped": "the share of trajectories whose importance weights overflowed",
    }

    def __post_init__(self) -> None:
        process = self.process
        if self.tolerance is not None and not process.exact and process.best_return == math.inf:
            raise ValueError(f"tolerance: no return is known to be the best of {self.task}, expected None")
        for name in ("trajectories", "product_trajectories", "test_episodes"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        if self.test_episodes is not None and process.exact:
            raise ValueError(f"test_episodes: J of {self.task} is exact, expected None")
        check_choice("credit", self._choice("credit"), CREDITS)
        if self.credit == "relative" and process.episode_length == 1:
            raise ValueError("credit: of trajectories of one step both are one, expected None")
        check_choice("baseline", self._choice("baseline"), BASELINES)
        if self.reward_scale is not None:
            check_number("reward_scale", self.reward_scale, 0)
        least = min(self.drawn.values())
        if self._choice("baseline") == "time" and least < 2:
            raise ValueError(
                f"baseline: the mean over one trajectory is all that there is; expected 'none', or "
                f"trajectories and product_trajectories >= 2, got {least}"
            )
        super().__post_init__()

    @cached_property
    def process(self) -> Task:
        """The task with its keywords."""
        return make_task(self.task, {name: getattr(self, name) for name in OF_TASKS})

    def _choice(self, name: str) -> Any:
        """A keyword, or the task's own value."""
        value = getattr(self, name)
        return (_USUAL | dict(self.process.usual))[name] if value is None else value

    @cached_property
    def drawn(self) -> dict[str, int]:
        """How many trajectories a kind rests on."""
        many = {kind: self._choice("trajectories") for kind in _DRAWN}
        few = self._choice("product_trajectories")
        return many | {"product": few, "causal_product": few}

    @cached_property
    def scale(self) -> float:
        """What rewards are multiplied by in the answers."""
        return float(self.process.reward_scale if self.reward_scale is None else self.reward_scale)

    @cached_property
    def estimator(self) -> Estimator:
        """How trajectories are used."""
        process = self.process
        return Estimator(process.policy, process.discount, self._choice("credit"), self._choice("baseline"))

    # What can be asked -------------------------------------------------------------------------

    @property
    def bounded_below(self) -> bool:
        return self.process.exact or self.process.best_return < math.inf

    @property
    def differentiable(self) -> bool:
        return not isinstance(self.process, Hosted)

    @property
    def vectorizable(self) -> bool:
        return not isinstance(self.process, Hosted)

    @property
    def measures_merit(self) -> bool:
        return not self.process.exact

    def places(self) -> dict[str, Shape | spaces.Box]:
        n = self.process.policy.size
        return {"x": (n,), "second": (n,), "vector": (n,), "recommendation": (n,)}

    def menu(self) -> dict[str, Kind]:
        n, process = self.process.policy.size, self.process
        done = 1 if isinstance(process.policy, Categorical) else process.policy.model.classes
        width = process.policy.model.shape[0] + done + 2
        shapes: dict[str, tuple[Shape, Function, tuple[str, ...]]] = {
            "policy_gradient": ((n,), self._gradient, ("x",)),
            "product": ((n,), lambda s, q: self._product(s, q, "paper"), ("second", "vector")),
            "causal_product": ((n,), lambda s, q: self._product(s, q, "causal"), ("second", "vector")),
            "pair": ((2, n), lambda s, q: self._pair(s, q)[0], ("x", "second")),
            "trajectory": (
                (self.drawn["trajectory"], process.episode_length, width),
                lambda s, q: self._scaled(s, q, "trajectory").packed(),
                ("x",),
            ),
            "return": ((1,), lambda s, q: self._played(s, q, "return").returns.mean(-1), ("x",)),
        }
        return {
            name: Kind(shape, self._noted(name, function), at, **self._price(name))
            for name, (shape, function, at) in shapes.items()
        }

    def _price(self, kind: str) -> dict[str, Any]:
        count, most = self.drawn[kind], self.process.episode_length
        if not self.process.ends:
            return {"bill": {"trajectories": count, "transitions": count * most}}
        drawn = "product" if kind == "causal_product" else kind
        steps: Function = lambda s, q: self._played(s, q, drawn).transitions  # noqa: E731
        return {"bill": {"trajectories": count, "transitions": steps}, "least": count}

    def _noted(self, kind: str, function: Function) -> Function:
        """The answer, found once: the judge looks at it, too."""
        return lambda state, query: query.once(f"answer {kind}", lambda: function(state, query))

    def sample(self, keys: Keys) -> Instance:
        world, x = self.process.draw(keys, self.torch_dtype)
        problem = Problem(
            menu=self.card.offer,
            estimator=self.estimator,
            episode_length=self.process.episode_length,
            trajectories=self.drawn["policy_gradient"],
            product_trajectories=self.drawn["product"],
            holds=self.process.holds,
        )
        best, floor = None, None
        if self.process.exact:
            best, floor = self.process.best(world), torch.zeros_like(x[:, 0])
        elif self.bounded_below:
            floor = torch.full_like(x[:, 0], -self.process.best_return)
        start = self.card.start(x=x, second=x, recommendation=x)
        return Instance(problem=problem, hidden=Hidden(world=world, best=best), start=start, floor=floor)

    # How it is answered ------------------------------------------------------------------------

    def _played(self, state: State, query: Query, kind: str) -> Trajectories:
        """The trajectories of a kind."""

        def play() -> Trajectories:
            place = query[_DRAWN[kind]]
            luck = (state.key, kind, state.k, self.drawn[kind])
            return self.process.play(state.hidden.world, place, *luck)

        return query.once(f"trajectories {kind}", play)

    def _scaled(self, state: State, query: Query, kind: str) -> Trajectories:
        played = self._played(state, query, kind)
        return played if self.scale == 1 else dataclasses.replace(played, rewards=self.scale * played.rewards)

    def _gradient(self, state: State, query: Query) -> Float[Tensor, "B n"]:
        return self.estimator.gradient(query["x"], self._scaled(state, query, "policy_gradient"))

    def _product(self, state: State, query: Query, form: str) -> Float[Tensor, "B n"]:
        played = self._scaled(state, query, "product")
        return self.estimator.product(query["second"], query["vector"], played, form)

    def _pair(self, state: State, query: Query) -> tuple[Float[Tensor, "B 2 n"], Float[Tensor, "B"]]:
        played = self._scaled(state, query, "pair")
        return query.once("pair", lambda: self.estimator.pair(query["x"], query["second"], played))

    # What is judged ----------------------------------------------------------------------------

    def judge(self, state: State, query: Query) -> tuple[Any, ...]:
        x, before = query["recommendation"], state.metrics
        nothing = torch.full_like(x[:, 0], torch.nan)
        metrics = {
            "return": before.get("return", nothing),
            "dropped": before.get("dropped", torch.zeros_like(nothing)),
        }
        sound = torch.ones_like(nothing, dtype=torch.bool)
        for kind in self.card.kinds:
            if kind not in query.kinds:
                continue
            drawn = "product" if kind == "causal_product" else kind
            seen = self._played(state, query, drawn).returns.mean(-1)
            metrics["return"] = torch.where(query.paid[kind], seen, metrics["return"])
            answer = self.card.kinds[kind].fn(state, query)
            sound = sound & (answer.reshape(len(x), -1).isfinite().all(-1) | ~query.paid[kind])
        if "pair" in query.kinds:
            lost = self._pair(state, query)[1]
            metrics["dropped"] = torch.where(query.paid["pair"], lost, metrics["dropped"])
        if self.process.exact:
            value = self.process.value(state.hidden.world, x)
            merit = (state.hidden.best - value).clamp_min(0)
            metrics |= {"value": value, "gap": merit}
            metrics |= {name: before.get(name, nothing) for name in ("slope", "fisher")}
            away = merit
        else:
            told = before.get("mean_return")
            metrics["mean_return"] = self._held_out(state, x) if told is None else told
            merit = -metrics["mean_return"]
            away = merit + self.process.best_return
        merit = torch.where(sound, merit, torch.inf)
        return Judgement(merit, metrics, None if self.tolerance is None else away <= self.tolerance)

    def _held_out(self, state: State, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        """The mean return over trajectories that never change."""
        count = 8 if self.test_episodes is None else self.test_episodes
        with torch.no_grad():
            played = self.process.play(state.hidden.world, x.detach(), state.key, "test", None, count)
        return played.returns.mean(-1)

    def judged(self, state: State, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        """The merit of weights of yours, unbilled: the gap, or minus the mean return of held-out episodes."""
        if self.process.exact:
            return (state.hidden.best - self.process.value(state.hidden.world, x)).clamp_min(0)
        return -self._held_out(state, x)

    def exact(
        self, state: State, x: Float[Tensor, "B n"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B n"], Float[Tensor, "B n n"]]:
        """J, its gradient and its Hessian at weights of yours, of a task whose J has a closed form; unbilled.

        Raises:
            ValueError: it has none, or the weights are not of the policy's shape.
        """
        n = self.process.policy.size
        if not self.process.exact:
            raise ValueError(f"task: J of {self.task} has no closed form; its mean_return is measured")
        if not isinstance(x, Tensor) or tuple(x.shape) != (len(state.k), n):
            came = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x: expected the weights of {len(state.k)} policies, (B, {n}), got {came}")
        return hessian(lambda y: self.process.value(state.hidden.world, y), x)

    def evaluate(self, state: State) -> State:
        x, process, world = state.observation["recommendation"], self.process, state.hidden.world
        if not process.exact:
            told = self._held_out(state, x)
            return with_merit(self, state, -told, {"mean_return": told})
        with torch.no_grad():
            slope = value_and_gradient(self._value(world), x.detach())[1]
            measured = {
                "slope": torch.linalg.vector_norm(slope, dim=-1),
                "fisher": process.fisher(world, x.detach()),
            }
        return dataclasses.replace(state, metrics=state.metrics | measured)

    def _value(self, world: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: self.process.value(world, x)

    def recordable(self, state: State) -> dict[str, Tensor]:
        """The recommendation under the name that points have elsewhere."""
        return {"point": state.observation["recommendation"]}
