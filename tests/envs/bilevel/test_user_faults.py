"""What is wrong with a user's two levels, silently: derivatives, minima, solutions, keywords."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed

DOUBLE = torch.float64


def upper(x: Tensor, y: Tensor) -> Tensor:
    return ((y - 1) ** 2).sum() + 0.1 * (x**2).sum()


def near(x: Tensor, y: Tensor) -> Tensor:
    return ((y - x) ** 2).sum()


def saddle(x: Tensor, y: Tensor) -> Tensor:
    return (y[0] - x[0]) ** 2 - (y[1] - x[1]) ** 2


class Halved(torch.autograd.Function):
    """The identity, whose derivative is right and whose second derivative of its square is not."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]
        return x.square()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0].detach())

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> tuple[Tensor, Any]:  # type: ignore[override]
        return Halved.apply(x), in_dims[0]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * ctx.saved_tensors[0].detach() * slope


def made(**changes: Any) -> Any:
    return optenvs.bilevel_from_functions(
        **({"upper": upper, "lower": near, "x": [1.0, 0.5], "y": [0.0, 0.0]} | changes)
    )


def begun(**changes: Any) -> Any:
    return made(**changes).reset(keys_from_seed(0, 2), evaluate=False)


def below(x: Tensor, y: Tensor) -> Tensor:
    return (y.sum() - x.sum() + 1).reshape(1)


DETACHED = "central differences of its values .*: is a part of it detached"
WRITES = "writes into its argument in place"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lower": lambda x, y: (y[0] - x[0]) ** 2 + (y[1] - x[1].detach()) ** 2}, f"lower: .*{DETACHED}"),
        ({"lower": lambda x, y: near(x, y) + y[1].detach() ** 2}, f"lower: .* by y of .*{DETACHED}"),
        ({"upper": lambda x, y: y[0] ** 2 + (y[1].detach() - 1) ** 2}, f"upper: .* by y of .*{DETACHED}"),
        ({"upper": lambda x, y: (x[0] - 1) * x[1].detach() + y[0]}, f"upper: .* by x of .*{DETACHED}"),
        ({"inequality": lambda x, y: y.detach() - x}, f"inequality: .* by y of .*{DETACHED}"),
        ({"equality": lambda x, y: (y - x.detach())[:1]}, f"equality: .* by x of .*{DETACHED}"),
        ({"solution": lambda x: x.detach() + 0 * x}, f"solution: .* by x of .*{DETACHED}"),
        ({"dtype": "float32", "inequality": lambda x, y: y.detach() - x}, f"inequality: .*{DETACHED}"),
    ],
)
def test_derivatives_that_are_none_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_a_second_derivative_that_is_none_is_refused() -> None:
    """The gradient is right, and detached from the point: products and hypergradients would be 0."""
    with pytest.raises(ValueError, match=f"lower: torch gives a second derivative.*{DETACHED}"):
        made(lower=lambda x, y: Halved.apply(y - x).sum() + 0.1 * (y**2).sum())


def test_functions_with_kinks_and_far_starts_are_no_faults() -> None:
    made(lower=lambda x, y: near(x, y) + (y - 0.1).abs().sum() + (x + y).relu().sum())
    made(upper=lambda x, y: (y - 2000).log().sum() + upper(x, y), x=[3000.0, 3000.0], y=[3000.0, 3000.0])
    made(lower=lambda x, y: 1e8 * near(x, y) + 1e9, dtype="float32")


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"lower": lambda x, y: -near(x, y)}, 1),
        ({"lower": saddle}, 1),
        ({"lower": saddle, "equality": lambda x, y: (y[0] - x[0]).reshape(1)}, 1),
        ({"lower": saddle, "equality": lambda x, y: (y[1] - x[0]).reshape(1)}, 0),
        ({"lower": saddle, "inequality": lambda x, y: (y[1] - x[1]).reshape(1)}, 1),  # active, no multiplier
        ({"lower": lambda x, y: -near(x, y), "inequality": lambda x, y: torch.cat((y - 9, -9 - y))}, 1),
        ({"lower": lambda x, y: (y[0] - x[0]) ** 2}, 0),  # flat in y_2: a minimum
        ({"lower": lambda x, y: ((y - x) ** 4).sum()}, 0),
        ({"lower": lambda x, y: near(x, y), "inequality": below}, 0),
    ],
)
def test_a_lower_level_that_curves_down_is_unsolved(changes: dict[str, Any], lost: int) -> None:
    state = begun(**changes)
    assert state.metrics["unsolved"].tolist() == [lost, lost]
    assert state.merit.isinf().tolist() == [bool(lost)] * 2
    assert not state.terminated.any()


def test_a_solution_that_is_beaten_is_unsolved_in_its_row() -> None:
    """The solution is the minimum near x; from y = 3 on the lower level is lower."""

    def two(x: Tensor, y: Tensor) -> Tensor:
        return near(x, y) - 20 * torch.sigmoid(10 * (y[0] - 3))

    for form in ({"evaluation_period": 1}, {"solution": lambda x: x}):
        env = made(lower=two, **form)
        state = env.reset(keys_from_seed(0, 2))
        assert state.metrics["unsolved"].tolist() == [0, 0]
        y = torch.tensor([[3.5, 0.5], [0.0, 0.5]], dtype=DOUBLE)
        query = env.card.offer.query({"lower": True}, x=state.observation["x"], y=y)
        assert env.evaluate(env.step(state, query)).metrics["unsolved"].tolist() == [1, 0]


def test_a_point_that_is_infeasible_beats_nothing() -> None:
    env = made(inequality=below)
    state = env.reset(keys_from_seed(0, 2))
    query = env.card.offer.query({"lower": True}, x=state.observation["x"], y=state.observation["x"])
    after = env.evaluate(env.step(state, query))
    assert (after.metrics["lower_gap"] < 0).all() and after.metrics["unsolved"].eq(0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solution": lambda x: 7 * x}, "solution: does not solve the lower problem"),
        ({"solution": lambda x: 1.01 * x, "x": 2}, "solution: does not solve the lower problem"),
        ({"solution": lambda x: x, "lower": saddle}, "solution: expected a minimum of the lower problem"),
        ({"solution": lambda x: x - 0.5, "inequality": below}, "y alone says that all multipliers are 0"),
        (
            {"solution": lambda x: x.clamp(0, 0.9), "project": {"lower": lambda y: y.clamp(0, 0.7)}},
            "solution: does not solve",
        ),
    ],
)
def test_a_solution_that_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_solutions_that_are_some_are_taken() -> None:
    made(solution=lambda x: (x - 0.5, (1 + 0 * x[0]).reshape(1)), inequality=below)
    made(solution=lambda x: x.clamp(0, 0.7), project={"lower": lambda y: y.clamp(0, 0.7)})
    made(solution=lambda x: x, dtype="float32")


@pytest.mark.parametrize(
    "changes",
    [
        {"solution": lambda x: x},
        {"project": {"lower": lambda y: y.clamp(0, 1)}},
        {"project": lambda x, y: (x, y.clamp(0, 1))},
    ],
)
def test_newtons_method_that_would_not_be_used_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="solver: 'newton' would have no effect beside"):
        made(solver="newton", **changes)
    made(**changes)


def confined(y: Tensor) -> Tensor:
    return y.clamp(0, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"solver": None, "minimum": 0.0},
            r"minimum: 0.0 would .* no lower problem is solved \(solver=None\)",
        ),
        ({"project": {"lower": confined}, "minimum": 0.0}, "minimum: .* knows no projection of y"),
        (
            {"y": 300, "lower": lambda x, y: (y**2).sum() + y[0] * x[0], "minimum": 0.0},
            "there are more than 256",
        ),
        ({"minimum": "0"}, "minimum: expected a finite number, got '0'"),
        ({"solver": None, "evaluation_period": 3}, "evaluation_period: 3 would have no effect where"),
        ({"solution": lambda x: x, "evaluation_period": 3}, "evaluation_period: 3 .* beside solution="),
        ({"solver": None, "tolerance": 1e-3}, "tolerance: 0.001 would have no effect where"),
    ],
)
def test_a_keyword_without_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_what_rests_on_no_lower_solution_is_never_called_solved() -> None:
    """The merit is then F and residuals, which may be below any tolerance."""
    env = made(upper=lambda x, y: upper(x, y) - 100, solver=None)
    state = env.reset(keys_from_seed(0, 2))
    assert (state.merit < -50).all() and not state.terminated.any()
    assert made(solution=lambda x: x, minimum=0.0, tolerance=1e-3, evaluation_period=10).tolerance == 1e-3


def test_a_batch_has_at_most_the_samples_that_there_are() -> None:
    def noisy(x: Tensor, y: Tensor, own: Tensor) -> Tensor:
        return near(x, y) + ((own @ y) ** 2).mean()

    samples = {"lower": torch.ones(5, 2, dtype=DOUBLE)}
    with pytest.raises(ValueError, match="batch_size: expected at most the 5 samples of lower, got 6"):
        made(lower=noisy, samples=samples, batch_size=6)
    made(lower=noisy, samples=samples, batch_size=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inequality": lambda x, y: (y - x).long()}, "inequality: expected floating numbers, got int64"),
        ({"inequality": lambda x, y: y > x}, "inequality: expected floating numbers, got bool"),
        ({"upper": lambda x, y: (y - x).sum().long()}, "upper: expected floating numbers, got int64"),
        ({"inequality": lambda x, y: y.sub_(x) - 1}, f"inequality: {WRITES}"),
        ({"equality": lambda x, y: y.sub_(x)[:1]}, f"equality: {WRITES}"),
        ({"lower": lambda x, y: (y.sub_(x) ** 2).sum()}, f"lower: {WRITES}"),
        ({"solution": lambda x: x.mul_(2)}, f"solution: {WRITES}"),
        ({"project": {"lower": lambda y: y.mul_(0.5)}}, f"project: lower: {WRITES}"),
    ],
)
def test_the_function_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_answers_are_cast_to_the_dtype() -> None:
    env = made(
        lower=lambda x, y: near(x, y).double(),
        inequality=lambda x, y: below(x, y).double(),
        dtype="float32",
    )
    state = env.reset(keys_from_seed(0, 2))
    assert state.metrics["unsolved"].eq(0).all()
    assert {value.dtype for value in state.metrics.values()} == {torch.float32}


def test_f2sa_refuses_a_multiplier_that_falls() -> None:
    with pytest.raises(ValueError, match="F2SA: c: expected at most a, 0.0"):
        agents.F2SA(a=0.0, c=1.0)
    agents.F2SA(a=0.5, c=0.5)


def test_a_hypergradient_costs_more_than_the_solution_it_rests_on() -> None:
    env: Any = optenvs.make("BilevelSvm", train=5, validation=4)
    state = env.reset(keys_from_seed(0, 1), evaluate=False)
    costs = {}
    for kind in ("solution", "hypergradient"):
        query = env.card.offer.query({kind: True}, x=state.observation["x"])
        after = env.step(state, query)
        costs[kind] = int(after.calls["derivatives"] - state.calls["derivatives"])
    assert costs == {"solution": 15, "hypergradient": 16}
