"""A keyword that is accepted is used, or refused by its name: all keywords of all registered environments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import agents
import optenvs
from optenvs.core.checks.probe import near
from optenvs.core.env import OptimizationEnv
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import tensors
from optenvs.data.weights import load_weights

LEFT_OUT = {
    "optenvs/TrainFashionMnist-v0": "the class of TrainMnist on a folder, which its own tests read",
    "optenvs/TrainCifar10-v0": "likewise",
}
"""Ids that are not walked, and why."""
ELSEWHERE = {
    "crash": "shows where a training crashes only; tests/envs/meta has such",
    "features": "EfficientNet takes seconds a step; tests/envs/surrogate has it",
    "nan": "shows at points without a value only; tests/envs/landscapes has such",
    "rates_check": "shows at rates that DADAO cannot use only; tests/envs/network has such",
}
"""Keywords that two steps of a tiny instance cannot show, and where they are shown."""
SETTLED = {
    (
        "optenvs/ConstrainedCutest-v0",
        "source",
    ): "the same numbers from elsewhere, as its own tests hold",
    ("optenvs/TrainBreastCancer-v0", "standardise"): "its loader has standardised each feature already",
}
"""Keywords of one id whose values rightly come to the same there."""


class Of:
    """A value that depends on the environment, and on a folder for files."""

    def __init__(self, make: Callable[[OptimizationEnv, Path], Any]) -> None:
        self.make = make


def point(env: OptimizationEnv, folder: Path) -> Any:
    """Near the start of the instances, and in no one's way."""
    return (0.5,) * getattr(env, "size", getattr(env, "dim", None) or 1)


def program(env: OptimizationEnv, folder: Path) -> Any:
    """The data of a constrained program, of another size than the default."""
    return {"Q": [[2.0, 0.0], [0.0, 1.0]], "q": [1.0, 1.0], "A": [[1.0, 2.0]], "b": [1.0]}


def scaled(env: OptimizationEnv, folder: Path) -> Any:
    """The shipped weights, a little larger, in a file."""
    name = {"RankingLatent": "diffusion"}.get(env.name, env.name.lower())
    file = folder / f"{name}.safetensors"
    save_file({key: (1.1 * value).contiguous() for key, value in load_weights(name).items()}, file)
    return str(file)


def each(name: str, *values: Any, **beside: Any) -> list[dict[str, Any]]:
    return [beside | {name: value} for value in values]


TABLE = ([[1.0, 2.0], [3.0, 1.0]], [0.5, 0.2])
"""Two rows of two numbers, and what they should come to."""

CHANGES: dict[str, list[dict[str, Any]]] = {
    "L": each("L", 7.0),
    "actions": each("actions", 2),
    "activation": each("activation", "tanh"),
    "actor_rate": each("actor_rate", 0.5, lifetime=2),
    "amplitude": each("amplitude", 3.0),
    "arguments": each("arguments", (3,)),
    "augment": each("augment", "crop_flip"),
    "baseline": [
        *each("baseline", "time"),
        *each("baseline", "time", trajectories=3, product_trajectories=3),
    ],
    "batch_size": each("batch_size", 5),
    "beta": each("beta", 0.5),
    "beta1": each("beta1", True),
    "bound": each("bound", 0.5),
    "bounded": each("bounded", True),
    "bounds": each("bounds", "domain", (-2.0, 2.0)),
    "branches": each("branches", 3),
    "budget": [*each("budget", 123, None), *each("budget", 123, epochs=3)],
    "categories": each("categories", 3, query="targets", rule=None),
    "centres": each("centres", ((0.5, 1.0), (1.0, 2.0)), nodes=2, dim=2),
    "centred": each("centred", False),
    "channels": each("channels", 3),
    "check": each("check", False),
    "classes": each("classes", 4, (1, 0), (3, 5)),
    "clip": [*each("clip", 1e-9), *each("clip", 1e-9, estimator="bptt")],
    "clients": each("clients", 2),
    "clock": each("clock", "rounds", "edges"),
    "common_luck": each("common_luck", True, level="tiny"),
    "complex_weights": each("complex_weights", True),
    "condition": each("condition", 7.0),
    "coupling": each("coupling", "cubes"),
    "critic_rate": each("critic_rate", 0.5, lifetime=3),
    "credit": each("credit", "relative"),
    "curvatures": each("curvatures", (1.0, 2.0), nodes=2),
    "data": [
        *each("data", "breast_cancer", "digits", Of(program), {"target": (0.5,) * 9}),
        *each("data", TABLE, rows=2, dim=2),
    ],
    "decay": each("decay", 0.5),
    "depth": [*each("depth", 34), *each("depth", 34, model="resnet")],
    "derivative": each("derivative", "official"),
    "device": each("device", "nowhere"),
    "discount": each("discount", 0.5),
    "digit": each("digit", 3),
    "dim": each("dim", 3),
    "disturbance": each("disturbance", 0.5),
    "dtype": each("dtype", "float32", "float64"),
    "entries": each("entries", "uniform"),
    "episode_length": each("episode_length", 7),
    "episodes": each("episodes", 2),
    "epsilon": each("epsilon", 0.5),
    "epochs": [*each("epochs", 3), *each("epochs", 3, budget=50)],
    "equations": each("equations", 4),
    "estimator": each("estimator", "bptt", "pes"),
    "explore": each("explore", 0.5),
    "eta": each("eta", 0.7),
    "evaluation_period": each("evaluation_period", 2),
    "equalities": each("equalities", 2),
    "equation": each("equation", "cubic"),
    "events": each("events", Of(lambda env, folder: [(0.5, 0, 1), (0.7, 1, 2)])),
    "expression": each("expression", "x^2+x*y+y^2"),
    "fitted": each("fitted", (1,)),
    "flip": each("flip", 0.9),
    "folder": each("folder", "/nowhere"),
    "formulation": each("formulation", "constraints"),
    "fraction": each("fraction", 1.0, 0.5),
    "function": each("function", "polynomial", "sigmoid"),
    "goal": each("goal", 0.0),
    "graph": each("graph", "star"),
    "graph_options": each("graph_options", {"probability": 0.9}),
    "group": each("group", "Q8"),
    "held_out": each("held_out", "horizons", {"seed": 5}, 5),
    "held_out_levels": each("held_out_levels", 3),
    "held_out_lifetime": each("held_out_lifetime", 9, level="tiny", rollout=5),
    "held_out_tasks": each("held_out_tasks", 3),
    "hessian": each("hessian", "weighted_gauss_newton", "inexact", "fisher", "fisher_term", "zero"),
    "high": each("high", 1.0),
    "grid": each("grid", 4),
    "images": each("images", 4),
    "inequalities": each("inequalities", 3),
    "interval": each("interval", "batch"),
    "instance": each("instance", "random"),
    "jitter": [*each("jitter", 0.1), *each("jitter", 0.1, surrogate="ode")],
    "kappa": each("kappa", 1.0, (0.0, 1.0)),
    "label_noise": each("label_noise", 0.9),
    "layers": each("layers", 1),
    "length": each("length", 4, (1, 9)),
    "level": each("level", "small"),
    "lifetime": each("lifetime", 2),
    "linear": each("linear", False),
    "lives": each("lives", 2),
    "loss": each("loss", "squared", "hinge", "theory", "nll"),
    "loss_scale": each("loss_scale", 0.3),
    "low": each("low", -7.0),
    "meta_loss": each("meta_loss", "log_average", "best"),
    "metric": each("metric", "last", "identity"),
    "minima": each("minima", ((1.0, 1.0), (0.0, 0.0))),
    "model": each("model", "logistic", "mlp"),
    "most": each("most", 0.01),
    "mu": each("mu", 0.07),
    "multiplier": each("multiplier", 2.0),
    "nodes": each("nodes", 5),
    "noise": each("noise", 0.5, "flips"),
    "noise_most": [*each("noise_most", 0.1), *each("noise_most", 0.1, noise="flips", noise_scale=0.2)],
    "noise_power": [*each("noise_power", 2.0), *each("noise_power", 2.0, noise="flips", noise_scale=0.2)],
    "noise_scale": [*each("noise_scale", 2.0), *each("noise_scale", 1e6, noise="thurstone")],
    "norm": each("norm", "layer"),
    "normaliser": each("normaliser", "classification"),
    "official_L": each("official_L", True),
    "official_slope": each("official_slope", True),
    "objective": each("objective", "bilinear"),
    "oracle": each("oracle", "value", "hvp", "minibatch", "conjugate"),
    "operands": each("operands", 3),
    "order": each("order", "time"),
    "paired": [
        *each("paired", False, oracle="fitness", estimator="truncated_bptt"),
        *each("paired", False, level="tiny"),
    ],
    "part": each("part", "validation"),
    "particles": each("particles", 4),
    "patterns": each("patterns", 5),
    "perturbation": each("perturbation", 0.3),
    "points": each("points", 3),
    "positive": each("positive", (0,), (2,)),
    "power": each("power", 3.0),
    "problem": each("problem", "valley2", "HS40"),
    "product_trajectories": each("product_trajectories", 3),
    "queries_per_minibatch": each("queries_per_minibatch", 1),
    "query": each("query", "targets", rule=None),
    "ranked": each("ranked", 2),
    "rankings": each("rankings", 7),
    "rates": each("rates", 3.0),
    "ratio": each("ratio", 0.5),
    "recommend": each("recommend", "best"),
    "report_every": each("report_every", 0.5),
    "residual": [*each("residual", False), *each("residual", False, layers=1)],
    "reward": each("reward", "value"),
    "rollout": each("rollout", 3),
    "reward_scale": each("reward_scale", 7.0),
    "room": each("room", 0.3),
    "rotate": each("rotate", True),
    "rows": each("rows", 35),
    "rule": each("rule", Of(lambda env, folder: agents.LOLv2(hidden=3, dtype="float64")), "lpo", "ppo"),
    "samples": each("samples", 20),
    "scale": each("scale", 3.0),
    "second_order": each("second_order", True, estimator="bptt", length=3),
    "sees": each("sees", "own"),
    "shift": each("shift", 0.3),
    "shown": each("shown", 4),
    "shuffled": each("shuffled", True),
    "sign": each("sign", True),
    "solve_rate": each("solve_rate", 0.1),
    "solve_steps": each("solve_steps", 5),
    "source": each("source", "folder"),
    "spectrum": each("spectrum", "linear", "wishart"),
    "split": [*each("split", "class"), *each("split", "class", data="breast_cancer")],
    "staggered": each("staggered", False, estimator="pes", window=2, length=9),
    "standardise": each("standardise", "none", "scalar", False),
    "start": each("start", Of(point), (-5.0, -4.0)),
    "start_multipliers": each("start_multipliers", Of(lambda env, folder: (0.5,) * getattr(env, "count", 1))),
    "start_mean": each("start_mean", (1.0, 2.0)),
    "start_std": each("start_std", 0.7),
    "std": each("std", 0.7),
    "steps": each("steps", 4),
    "surrogate": each("surrogate", "ode"),
    "t_max": each("t_max", 5.0),
    "target_noise": each("target_noise", 1.0),
    "task": each("task", "cartpole", "pendulum"),
    "test_episodes": each("test_episodes", 2),
    "tolerance": each("tolerance", 1e9),
    "trajectories": each("trajectories", 3),
    "train": each("train", 10),
    "units": each("units", 3),
    "updates": each("updates", 2, oracle="gradient"),
    "v_init": each("v_init", 0.0),
    "validation": each("validation", 8, 0.5),
    "upper_equations": each("upper_equations", 3),
    "variant": each("variant", "1"),
    "weight_decay": each("weight_decay", 0.5),
    "weights": each("weights", Of(scaled)),
    "white_box": each("white_box", True),
    "window": each("window", 1, estimator="pes", length=10),
    "workers": each("workers", 3),
    "worst": each("worst", 1e-3),
    "width": each("width", 5),
    "widths": [*each("widths", (3,), (2, 3)), *each("widths", (3,), model="logistic")],
}
"""By keyword what is changed; what is beside the keyword is its context."""


def facts(env: OptimizationEnv) -> Iterator[Any]:
    """What anybody can see of an environment but its configuration, of a reset and two steps."""
    yield env.action_space, env.observation_space, env.bill, env.first_bill, env.least_bill, env.limits
    yield env.oracles, env.horizon, env.evaluations, env.fixed_cost, env.bounded_below, env.ends
    keys = keys_from_seed(0, 3)
    start = env.sample(keys).start
    state = env.reset(keys)
    for place in range(3):
        if place:
            state = env.step(state, near(env, keys, start, place))
        seen = dataclasses.replace(state, origin=())
        yield (
            [leaf for _, leaf in sorted(tensors(seen).items())],
            sorted(tensors(seen)),
            sorted(state.metrics),
        )
    yield (
        getattr(state.problem, "weights", ()) is None
    )  # a white box without data of its own has none to show
    if hasattr(state.problem, "slope"):
        outputs = state.observation["outputs"]
        yield state.problem.slope(outputs if env.points is None else outputs[:, 0])  # type: ignore[attr-defined]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def walked(env_id: str, field: dataclasses.Field[Any]) -> bool:
    """Whether the keyword is this environment's own, and in no table of what is left out."""
    inside = field.metadata.get("environment")  # another environment, whose own id is walked
    return field.init and not inside and field.name not in ELSEWHERE and (env_id, field.name) not in SETTLED


@pytest.mark.parametrize("environment", sorted({*optenvs.list_envs()} - {*LEFT_OUT}), indirect=True)
def test_each_keyword_is_used_or_refused(environment: Any, tmp_path: Path) -> None:
    plain, faults = environment.make(), []
    known: dict[str, list[Any]] = {}
    known_keywords = {field.name for field in dataclasses.fields(plain)}

    def seen(env: OptimizationEnv) -> list[Any]:
        name = repr(env.configuration)
        if name not in known:
            known[name] = list(facts(env))
        return known[name]

    for field in dataclasses.fields(plain):
        if not walked(environment.id, field):
            continue
        told = 0
        for changes in CHANGES[field.name]:
            value = changes[field.name]
            value = value.make(plain, tmp_path) if isinstance(value, Of) else value
            try:
                base = environment.make(**{k: v for k, v in changes.items() if k != field.name})
            except (TypeError, ValueError):
                continue  # the context is of other families
            now = getattr(base, field.name)
            if now == value or (isinstance(now, float) and isinstance(value, str)):
                continue  # of a keyword of the same name with another meaning
            told += 1
            try:
                changed = base.replace(**{field.name: value})
                after = seen(changed)
            except (TypeError, ValueError, FileNotFoundError, ImportError, NotImplementedError) as error:
                # or of what it does not go with, or of what is in it
                names = {field.name, *(value if isinstance(value, dict) else ())}
                first = str(error).partition(":")[0]
                if first not in known_keywords and not any(name in str(error) for name in names):
                    faults.append(f"{changes}: refused without the keyword's name: {error}")
                continue
            if same(seen(base), after):
                faults.append(f"{changes}: accepted, and nothing changes")
        if not told and CHANGES[field.name]:
            faults.append(f"{field.name}: nothing tried")
    assert not faults, "\n".join(faults)
