"""Experiment files: defaults, overrides, and messages that say what is wrong and where."""

from __future__ import annotations

import copy
import json
import tomllib

import pytest

from optenvs.bench.experiment import Engine, builtin, builtins, load, parse
from optenvs.bench.sections import ExperimentError
from optenvs.bench.toml_text import to_toml

TEXT = """
name = "demo"
judging_seeds = 10
budget = 100

[[environments]]
id = "optenvs/Sphere-v0"
kwargs = { dim = 10 }

[[environments]]
id = "optenvs/Rosenbrock-v0"
label = "Valley"
budget = 500
metric = "test_loss"
cost = "value"
best_so_far = false
tolerances = [0.5, 0.1, 0.01]

[[agents]]
name = "adam"
grid = { lr = [0.1, 0.01], beta = [0.9, 0.99] }
kwargs = { eps = 1e-8 }

[[agents]]
name = "newton"
"""


@pytest.fixture
def data():
    return tomllib.loads(TEXT)


def test_defaults_and_overrides(data):
    experiment = parse(data)
    first, second = experiment.environments
    assert (experiment.seed, experiment.tuning_seeds, experiment.selection) == (
        0,
        3,
        "final",
    )
    assert experiment.engine == Engine("sequential", 1)
    assert (first.label, first.budget, first.cost, first.metric) == (
        first.id,
        100,
        None,
        None,
    )
    assert first.best_so_far
    assert first.tolerances == (1e-1, 1e-3, 1e-5)
    assert first.kwargs == {"dim": 10}
    assert (second.label, second.budget) == ("Valley", 500)
    assert (second.metric, second.cost, second.best_so_far) == (
        "test_loss",
        "value",
        False,
    )
    assert second.tolerances == (0.5, 0.1, 0.01)
    json.dumps(experiment.to_dict(), allow_nan=False)


def test_candidates_are_all_combinations_in_the_order_of_the_file(data):
    adam, newton = parse(data).agents
    assert [(c["lr"], c["beta"]) for c in adam.candidates] == [
        (0.1, 0.9),
        (0.1, 0.99),
        (0.01, 0.9),
        (0.01, 0.99),
    ]
    assert all(c["eps"] == 1e-8 for c in adam.candidates)
    assert newton.candidates == ({},)


def _put(data, path, value):
    changed = copy.deepcopy(data)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["bugdet"], 1, "bugdet: unknown key; did you mean 'budget'"),
        (["zzz"], 1, "zzz: unknown key; known are name, seed"),
        (["environments", 0, "kwarg"], {}, r"environments\[0\].kwarg: .*'kwargs'"),
        (["agents", 1, "gird"], {}, r"agents\[1\].gird: .*'grid'"),
        (["engine"], {"job": 2}, "engine.job: .*'jobs'"),
        (["budget"], -3, r"budget: found -3 \(int\), expected an integer >= 1"),
        (["budget"], 10.5, r"budget: found 10.5 \(float\), expected an integer"),
        (
            ["judging_seeds"],
            True,
            r"judging_seeds: found True \(bool\), expected an integer",
        ),
        (["judging_seeds"], 0, "judging_seeds: found 0"),
        (["tuning_seeds"], 0, "tuning_seeds: found 0 .*'adam' has a grid"),
        (["name"], "", "name: found ''"),
        (["selection"], "finals", "selection: found 'finals'.*did you mean 'final'"),
        (["engine"], {"backend": "dask"}, "engine.backend: found 'dask'.*'loky'"),
        (["engine"], 3, "engine: found 3"),
        (["environments"], [], r"environments: found \[\]"),
        (["environments"], [3], r"environments\[0\]: found 3, expected a table"),
        (
            ["environments", 1, "budget"],
            "x",
            r"environments\[1\].budget: found 'x' \(str\)",
        ),
        (
            ["environments", 1, "label"],
            "optenvs/Sphere-v0",
            "label: .*no other entry has",
        ),
        (["environments", 1, "best_so_far"], 1, "best_so_far: found 1"),
        (["environments", 1, "tolerances"], [0.1], "3 levels, as many"),
        (["tolerances"], [0.1, 2.0], r"tolerances: .*\(0, 1\)"),
        (["tolerances"], [0.01, 0.1], "decreasing"),
        (["tolerances"], [], "non-empty"),
        (
            ["agents", 0, "grid"],
            {"lr": 0.1},
            r"agents\[0\].grid.lr: found 0.1 .*non-empty list",
        ),
        (["agents", 0, "grid"], {"lr": []}, "non-empty list"),
        (["agents", 0, "grid"], {"lr": [1.0, 1.0]}, "without repetition"),
        (["agents", 0, "grid"], {"eps": [1.0]}, "not fixed in kwargs"),
        (
            ["agents", 0, "kwargs"],
            {"a": {"b": [float("inf")]}},
            "kwargs.a.b: found inf",
        ),
    ],
)
def test_mistakes_are_named(data, path, value, message):
    with pytest.raises(ExperimentError, match=message):
        parse(_put(data, path, value), "file.toml")


def test_missing_key_suggests_the_misspelt_one(data):
    del data["budget"]
    data["bugdet"] = 100
    with pytest.raises(ExperimentError, match="budget: missing, .*'bugdet', did you mean 'budget'"):
        parse(data)


def test_syntax_error_names_the_file_and_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("name = \nbudget = 3")
    with pytest.raises(ExperimentError, match=r"broken.toml: not a TOML file.*line 1"):
        load(path)
    path.write_text(TEXT)
    assert load(path).name == "demo"


def test_packaged_experiments_are_valid():
    assert "quickstart" in builtins()
    for name in builtins():
        assert builtin(name).name == name
    with pytest.raises(ExperimentError, match="'qick'.*there are .*quick"):
        builtin("qick")


def test_an_experiment_can_be_written_and_read_again(data):
    data["agents"][0]["kwargs"]["widths"] = [8, 16]
    data["agents"][0]["kwargs"]["name of 'it'"] = {"a b": '\u00e9 "x" \\ \U0001f600\n', "flag": True}
    data["engine"] = {"backend": "loky", "jobs": 2}
    experiment = parse(data)
    for config in (experiment.to_dict(), json.loads(json.dumps(experiment.to_dict()))):
        again = parse(tomllib.loads(to_toml(config)))
        assert again.to_dict() == experiment.to_dict()
    for name in builtins():
        assert parse(tomllib.loads(to_toml(builtin(name).to_dict()))).to_dict() == builtin(name).to_dict()
