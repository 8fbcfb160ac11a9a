"""Keywords that would have no effect are refused, by name."""

from __future__ import annotations

from typing import Any

import pytest

import optenvs
from optenvs.envs.landscapes.classic import Rosenbrock
from optenvs.envs.particles.particles import Particles
from optenvs.envs.ranking.ranking import Ranking


@pytest.mark.parametrize(
    ("env", "keywords", "message"),
    [
        (
            "Particles",
            {"landscape": "GrandCanyon", "start": (5.0, -1.0)},
            "start: .* of the landscape would have no",
        ),
        ("TrainDigits", {"samples": 1797}, "samples: expected at most the 1437 of the set, got 1797"),
        ("NetworkDigits", {"samples": 1797}, "samples: expected at most 1437, got 1797"),
        ("NetworkDigits", {"widths": (), "activation": "tanh"}, "activation: 'tanh' would have no effect"),
        ("NetworkLogistic", {"data": "digits", "samples": 50}, "samples: 50 would have no effect"),
        ("Ranking", {"noise_scale": 2.0}, "noise_scale: 2.0 would have no effect with noise='none'"),
        ("Ranking", {"noise_most": 0.2, "noise": "thurstone"}, "noise_most: 0.2 would have no effect"),
        ("Ranking", {"start": (0.0,) * 10, "start_std": 1.0}, "start_std: the objective has a start"),
        (
            "TrainDigits",
            {"norm": "batch", "model": "cnn"},
            "norm: .batch. would have no effect on model=.cnn.",
        ),
        ("TrainDigits", {"depth": 34}, "depth: 34 would have no effect on model=.mlp."),
        ("TrainDigits", {"epochs": 3, "budget": 50}, "epochs: 3 would have no effect beside budget=50"),
        ("TrainDigits", {"model": "logistic", "widths": (3,)}, "widths: .3,. would have no effect on model="),
        ("ReluBox", {"tolerance": 0.1}, "tolerance: 0.1 would have no effect: no least value of ReluBox"),
        ("Quadratic", {"spectrum": "wishart", "condition": 7.0}, "condition: 7.0 would have no effect"),
        ("Quadratic", {"start": (0.0,) * 10, "scale": 7.0}, "scale: 7.0 would have no effect"),
    ],
)
def test_keywords_without_effect(env: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make(env, **keywords)


@pytest.mark.parametrize(
    "keywords",
    [
        {"dtype": "float64"},
        {"budget": 5},
        {"reward": "none"},
        {"tolerance": 0.5},
        {"oracle": "hvp"},
    ],
)
def test_what_an_environment_inside_says_alone_is_refused(keywords: dict[str, Any]) -> None:
    (name,) = keywords
    inside = Rosenbrock(dim=3, **keywords)
    for outer, field in ((Particles, "landscape"), (Ranking, "objective")):
        with pytest.raises(
            ValueError, match=rf"{field}: {name}=.* of Rosenbrock would have no effect; {outer.__name__}"
        ):
            outer(**{field: inside})
        if name != "oracle":
            agreed = outer(
                **{field: inside},
                **(
                    keywords
                    if name != "budget"
                    else {"budget": 5, "particles": 2}
                    if outer is Particles
                    else {"budget": 5, "shown": 2}
                ),
            )
            assert getattr(agreed, name) == keywords[name]


def test_a_budget_takes_the_place_of_epochs_in_a_copy() -> None:
    env = optenvs.make("TrainDigits", samples=96, widths=(4,), epochs=3)
    assert env.replace(budget=7).limits == {"gradient": 7}
    assert optenvs.check(env).ok  # the checker gives it a budget
    with pytest.raises(ValueError, match="epochs: 2 would have no effect beside budget=7"):
        env.replace(budget=7, epochs=2)
