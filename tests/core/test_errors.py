"""Every bad input is refused with the name of the field, what came, and what was expected."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.error import InvalidAction, NameNotFound

import agents
import optenvs
from envs_registry import EnvSpec
from optenvs.core.errors import OracleMismatch, UnknownKeyword, UnknownName, check_oracles, suggest
from optenvs.core.spaces import as_action, box, check_action


def test_unknown_ids_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no environment 'Rosenbrok'; did you mean 'optenvs/Rosenbrock-v0'"):
        optenvs.make("Rosenbrok")
    with pytest.raises(NameNotFound):
        optenvs.make("nothing like it")
    with pytest.raises(KeyError):
        optenvs.make("nothing like it")
    with pytest.raises(UnknownName, match="no agent 'adaam'; did you mean 'adam'"):
        agents.make("adaam")


def test_unknown_keywords_suggest_the_nearest() -> None:
    with pytest.raises(UnknownKeyword, match="got an unexpected keyword argument 'dimm'; did you mean 'dim'"):
        optenvs.make("Quadratic", dimm=3)
    with pytest.raises(UnknownKeyword, match="got an unexpected keyword argument 'budgets'"):
        gym.make("optenvs/Quadratic-v0", budgets=3)
    with pytest.raises(UnknownKeyword, match="Quadratic got an .* 'oracel'; did you mean 'oracle'"):
        optenvs.make("Quadratic").replace(oracel="value")
    with pytest.raises(UnknownKeyword, match="sgd got an unexpected keyword argument 'learning_rate'"):
        agents.make("sgd", learning_rate=1.0)


def test_a_mismatch_of_oracles_names_both_sides() -> None:
    message = r"agent Newton needs the oracle\(s\) hvp, but Quadratic answers value, gradient"
    with pytest.raises(OracleMismatch, match=message):
        check_oracles("Newton", ("value", "hvp"), "Quadratic", ("value", "gradient"))
    check_oracles("SGD", ("gradient",), "Quadratic", ("value", "gradient"))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"budget": 0}, "budget: expected a whole number >= 1, got 0 for gradient"),
        ({"budget": -5}, "budget: expected a whole number >= 1, got -5"),
        ({"budget": 2.5}, "budget: expected a whole number >= 1, got 2.5"),
        ({"budget": True}, "budget: expected a whole number >= 1, got True"),
        ({"budget": {"gradients": 3}}, "budget: Quadratic bills no 'gradients'; did you mean 'gradient'"),
        ({"reward": "improvment"}, "reward: got 'improvment'; did you mean 'improvement'"),
        ({"dtype": "float16"}, "dtype: expected 'float32' or 'float64', got 'float16'"),
        ({"tolerance": -1.0}, "tolerance: expected a number >= 0 or None, got -1.0"),
        ({"tolerance": float("nan")}, "tolerance: expected a number >= 0"),
        ({"device": "cuda:99"}, r"device: 'cuda:99' cannot be used here .*; device='cpu' always can"),
        ({"device": "quantum"}, "device: 'quantum' cannot be used here"),
        ({"oracle": "third"}, "oracle: expected one of value, gradient, hvp, hessian, got 'third'"),
        ({"dim": 0}, "dim: expected a whole number >= 1, got 0"),
        ({"dim": 2.0}, "dim: expected a whole number >= 1, got 2.0"),
        ({"noise": -0.1}, "noise: expected a number >= 0, got -0.1"),
        ({"noise": "gaussian"}, "noise: expected a number >= 0, got 'gaussian'"),
        ({"noise": float("inf")}, "noise: expected a number >= 0, got inf"),
        ({"shift": float("nan")}, "shift: expected a number >= 0, got nan"),
        ({"bounds": "box"}, r"bounds: expected None, 'domain' or \(low, high\), got 'box'"),
        ({"bounds": (1.0, -1.0)}, "bounds: expected low < high"),
        ({"start": (1.0,)}, "start: expected 10 finite numbers"),
        ({"start": (9.0,) * 10, "bounds": "domain"}, "start: .* lies outside bounds"),
        ({"spectrum": "flat"}, "spectrum: expected one of log, linear, .*, got 'flat'"),
        ({"condition": 0.5}, "condition: expected a number >= 1, got 0.5"),
        ({"scale": 0.0}, "scale: expected a number > 0, got 0.0"),
    ],
)
def test_keywords_out_of_range(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optenvs.make("Quadratic", **keywords)


def test_a_budget_must_pay_the_first_query() -> None:
    class Dear(type(optenvs.make("Quadratic"))):  # type: ignore[misc]
        bill = {"gradient": 5}  # noqa: RUF012

    with pytest.raises(ValueError, match="4 gradient calls do not pay the first query, which costs 5"):
        Dear(budget=4)


def test_log_improvement_needs_a_lower_bound() -> None:
    with pytest.raises(ValueError, match="needs a known lower bound, which FunctionLandscape lacks"):
        optenvs.from_function(lambda x: x.sum(), dim=2, reward="log_improvement")


BOX = box((3,), "float32", -1.0, 1.0)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(2), r"action: expected shape \(3,\), got \(2,\)"),
        (np.zeros((1, 3)), r"action: expected shape \(3,\), got \(1, 3\)"),
        (0.5, r"action: expected shape \(3,\), got \(\)"),
        ([1.0, "a", 2.0], "action: cannot be cast to float32"),
        (None, "action: cannot be cast to float32"),
        ([[0.0], [0.0, 1.0]], "action: cannot be cast to float32"),
        (np.zeros(3, complex), "action: cannot be cast to float32"),
        (torch.zeros(3, dtype=torch.complex64), "action: dtype torch.complex64 cannot be cast"),
        (torch.zeros(3, device="meta"), "action: lives on meta, the environment on cpu; move it there"),
    ],
)
def test_actions_that_do_not_fit(action: Any, message: str) -> None:
    with pytest.raises(InvalidAction, match=message):
        as_action(BOX, action, None, torch.device("cpu"))


@pytest.mark.parametrize(
    ("numbers", "came"),
    [
        (
            [0.0, float("nan"), 0.0],
            r"got \[ ?0\. +nan +0\.\]: nan at index 1 \(1 of 3 entries are wrong\) for instance 1",
        ),
        ([0.0, 0.0, float("inf")], "inf"),
        ([0.0, 0.0, 1.5], "1.5"),
    ],
)
def test_actions_with_bad_numbers(numbers: list[float], came: str) -> None:
    batch = torch.tensor([[0.0] * 3, numbers])
    message = rf"action: expected finite numbers of shape \(3,\) in \[-1.0, 1.0\], .*{came}"
    with pytest.raises(InvalidAction, match=message):
        check_action(BOX, batch)
    check_action(BOX, batch, rows=torch.tensor([True, False]))


def test_the_wrong_entries_of_a_long_action_are_named() -> None:
    action = torch.zeros(2, 40, 25)
    action[1, 30, 7], action[1, 31, 0] = torch.nan, -torch.inf
    message = r"got nan at index \(30, 7\) \(2 of 1000 entries are wrong\) for instance 1"
    with pytest.raises(InvalidAction, match=message):
        check_action(box((40, 25)), action)
    with pytest.raises(InvalidAction, match=r"got inf at index 4711 \(1 of 10000 entries are wrong\)"):
        check_action(box((10_000,)), _one_infinity())
    scalar = spaces.Box(0, 1, (), np.float32)
    with pytest.raises(InvalidAction, match=r"\[0.0, 1.0\], got 2 for instance 0"):
        check_action(scalar, torch.tensor([2.0]))


def _one_infinity() -> torch.Tensor:
    action = torch.zeros(1, 10_000)
    action[0, 4711] = torch.inf
    return action


def test_dict_actions_name_their_fields() -> None:
    env = optenvs.make("Quadratic", dim=2, oracle="hvp")
    message = r"expected a dict with the fields \['point', 'vector'\], got \['point'\]"
    with pytest.raises(InvalidAction, match=message):
        as_action(env.action_space, {"point": [0.0, 0.0]}, None, torch.device("cpu"))
    with pytest.raises(InvalidAction, match="got ndarray"):
        as_action(env.action_space, np.zeros(2), None, torch.device("cpu"))
    with pytest.raises(InvalidAction, match=r"vector: expected shape \(2,\), got \(3,\)"):
        as_action(env.action_space, {"point": [0.0] * 2, "vector": [0.0] * 3}, None, torch.device("cpu"))


def test_integer_spaces_refuse_fractions() -> None:
    space = spaces.Box(0, 5, (2,), np.int64)
    with pytest.raises(InvalidAction, match="cannot be cast to int64"):
        as_action(space, [0.5, 1.0], None, torch.device("cpu"))
    with pytest.raises(InvalidAction, match=r"torch.float32 cannot be cast to torch.int64"):
        as_action(space, torch.tensor([0.5, 1.0]), None, torch.device("cpu"))
    assert as_action(space, [1, 2], None, torch.device("cpu")).tolist() == [[1, 2]]


def test_face_arguments() -> None:
    with pytest.raises(ValueError, match="render_mode: expected 'rgb_array' or None, got 'human'"):
        optenvs.making.GymEnv(optenvs.make("Quadratic"), render_mode="human")
    with pytest.raises(ValueError, match="num_envs: expected a whole number >= 1, got 0"):
        gym.make_vec("optenvs/Quadratic-v0", 0)
    with pytest.raises(ValueError, match="autoreset_mode: expected one of"):
        gym.make_vec("optenvs/Quadratic-v0", 2, autoreset_mode="sometimes")
    with pytest.raises(ValueError, match="max_episode_steps: expected >= 1, got 0"):
        optenvs.making.TorchVectorEnv(optenvs.make("Quadratic"), 2, max_episode_steps=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "Quadratic"}, "id: expected 'namespace/Name-vN', got 'Quadratic'"),
        ({"entry_point": "module"}, "entry_point: expected 'module:Class', got 'module'"),
    ],
)
def test_declarations(fields: dict[str, Any], message: str) -> None:
    good = {"id": "me/Mine-v0", "entry_point": "m:C", "family": "f", "oracles": ("value",), "summary": "s"}
    with pytest.raises(ValueError, match=message):
        EnvSpec(**(good | fields))


def test_a_taken_id_is_refused() -> None:
    spec = EnvSpec(
        id="optenvs/Quadratic-v0", entry_point="m:C", family="f", oracles=("value",), summary="another"
    )
    with pytest.raises(ValueError, match="id: 'optenvs/Quadratic-v0' is already registered"):
        optenvs.register(spec)


def test_a_taken_agent_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name: 'sgd' is already registered"):
        agents.register("sgd", "mine:SGD")
    with pytest.raises(ValueError, match="entry_point: expected 'module:Class', got 'mine'"):
        agents.register("mine", "mine")


def test_suggestions_are_given_only_where_one_is_near() -> None:
    assert suggest("adm", ["adam", "sgd"]) == "; did you mean 'adam'? (known: adam, sgd)"
    assert suggest("xyz", ["adam", "sgd"]) == " (known: adam, sgd)"


def test_unknown_attributes_of_the_packages() -> None:
    with pytest.raises(AttributeError, match="module 'optenvs' has no attribute 'mak'"):
        optenvs.mak  # noqa: B018
    with pytest.raises(AttributeError, match="module 'agents' has no attribute 'Adamm'"):
        agents.Adamm  # noqa: B018


def test_what_a_rollout_cannot_use_is_named() -> None:
    env = optenvs.make("Rosenbrock")
    with pytest.raises(TypeError, match="agent: expected an object with init and act, got the class SGD"):
        optenvs.rollout(env, agents.SGD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps: expected a whole number >= 0, got -1"):
        optenvs.rollout(env, agents.SGD(), steps=-1)


@pytest.mark.parametrize(
    ("id", "keywords", "fields"),
    [
        ("Rosenbrock", {"oracle": "hvp"}, "'point', 'vector'"),
        ("Rosenbrock", {"oracle": "hessian"}, "'want', 'point', 'vector'"),
        ("NetworkQuadratic", {"t_max": 2.0}, "'query'"),
    ],
)
def test_an_agent_that_asks_in_another_form_is_told_the_form(
    id: str, keywords: dict[str, Any], fields: str
) -> None:
    point = agents.from_function(lambda observation: torch.zeros(1, 2), needs=())
    with pytest.raises(
        TypeError, match=rf"action: {id} is asked by a dict with the fields \[{fields}\], got"
    ):
        optenvs.rollout(optenvs.make(id, **keywords), point, steps=1)


def test_a_dict_where_one_tensor_is_asked_is_refused() -> None:
    fields = agents.from_function(lambda observation: {"point": observation["point"]}, needs=())
    with pytest.raises(TypeError, match=r"TrainDigits is asked by one tensor, got the fields \['point'\]"):
        optenvs.rollout(optenvs.make("TrainDigits", samples=50), fields, steps=1)


@pytest.mark.parametrize("widths", [32, (-1,), (8.0,), "32"])
def test_widths_are_whole_numbers(widths: Any) -> None:
    with pytest.raises(ValueError, match="widths: expected a tuple of whole numbers >= 1, got"):
        optenvs.make("TrainDigits", widths=widths)


def test_evaluations_at_no_query_are_refused() -> None:
    with pytest.raises(ValueError, match=r"evaluation_period: expected .*, got \(\)"):
        optenvs.make("TrainDigits", evaluation_period=())
