"""Scores: what they are made of, that nothing is dropped, what is refused, files, tables of one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.errors import OracleMismatch, UnknownKeyword, UnknownName
from optenvs.envs.meta.families import SPLITS
from optenvs.scoring import tables
from optenvs.scoring.normaliser import AdamSteps
from optenvs.scoring.result import side_by_side
from optenvs.scoring.splits import SEEDS, published, scored
from optenvs.wrappers import StepSizeControl

TINY = {"env": "optenvs/LeastSquares-v0", "dim": 2}
STEPS = 8


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("cache")
        patch.setenv("OPTENVS_CACHE", str(place))
        yield place


def tiny(agent: Any, **keywords: Any) -> optenvs.Score:
    return optenvs.score(agent, "seeds", **({"tasks": TINY, "steps": STEPS} | keywords))


# What a score is -------------------------------------------------------------------------------


def test_a_score_is_adams_steps_by_ones_own() -> None:
    found = tiny(agents.SGD(lr=0.05), name="descent")
    (course,) = found.courses
    assert (found.agent, found.split, found.steps) == ("descent", "seeds", STEPS)
    task = optenvs.make("LeastSquares", dim=2, dtype="float64", budget=STEPS + 1)
    run = optenvs.rollout(task, agents.SGD(lr=0.05), seed=SPLITS["seeds"].seed, batch=SEEDS)
    assert torch.equal(course.losses, torch.minimum(run.merit, run.merit[0]))
    curve = course.losses.mean(1)
    smoothed = [curve[0].item()]
    for value in curve[1:].tolist():
        smoothed.append(0.95 * smoothed[-1] + 0.05 * value)
    assert course.curve.tolist() == pytest.approx(smoothed)
    assert course.speedups[-1].item() == pytest.approx(course.scale.steps(course.curve[-1]).item() / STEPS)
    assert found.speedup == course.speedup == pytest.approx(course.adam_steps[-1].item() / STEPS)
    assert 0 < found.speedup < 1
    assert found.calls == {"gradient": SEEDS * (STEPS + 1), "value": SEEDS * (STEPS + 1)}
    assert found.seconds > 0 and found.failure_rate == 0 and found.work == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.steps = 3  # type: ignore[misc]


def test_adam_at_a_rate_of_the_grid_gets_what_the_table_says() -> None:
    whole, _ = scored("seeds", TINY, STEPS)
    table = tables.table_of(whole)
    (scale,), best = table.scales, table.tuned[0]
    for rate, final in zip(table.rates[::3].tolist(), table.finals[0][::3], strict=True):
        found = tiny(agents.Adam(lr=rate))
        assert found.courses[0].curve[-1].item() == pytest.approx(final.item(), rel=1e-9)
        assert found.speedup == pytest.approx(scale.steps(final).item() / STEPS, rel=1e-6)
        assert found.speedup <= 1 + 1e-9
    assert tiny(agents.Adam(lr=best)).speedup == pytest.approx(1, abs=scale.cell / STEPS)
    assert table.length == tables.REACH * STEPS


def test_failures_are_counted_and_never_dropped() -> None:
    one = dataclasses.replace(
        agents.SGD(), lr=torch.tensor([0.05] * (SEEDS - 1) + [1e9], dtype=torch.float64)
    )
    good, mixed, bad = tiny(agents.SGD(lr=0.05)), tiny(one), tiny(agents.SGD(lr=1e9))
    assert (good.failure_rate, mixed.failure_rate, bad.failure_rate) == (0, 1 / SEEDS, 1)
    assert bad.speedup == 0
    assert 0 < mixed.speedup < good.speedup
    (course,) = mixed.courses
    assert course.failed.tolist() == [False] * (SEEDS - 1) + [True]
    assert torch.equal(course.losses[:, -1], course.losses[0, -1].expand(STEPS + 1))
    assert mixed.rows()[-1]["failed"] == 1 and mixed.rows()[-1]["instances"] == SEEDS


def test_no_number_is_the_worst_whatever_the_agent() -> None:
    nothing = agents.from_function(lambda seen: seen["point"] * torch.nan)
    found = tiny(nothing)
    assert found.speedup == 0 and found.failure_rate == 1
    assert found.speedups.tolist() == [0] * STEPS


def test_a_speed_up_that_adam_never_reaches_is_a_lower_bound() -> None:
    found = tiny("sgd")
    (course,) = found.courses
    slow = AdamSteps(torch.linspace(9, 8, 512, dtype=torch.float64), course.scale.length)
    better = dataclasses.replace(found, courses=(dataclasses.replace(course, scale=slow),))
    assert not found.beyond and ">" not in str(found)
    assert better.beyond
    assert better.speedup == tables.REACH
    assert "> 4.00" in str(better)
    row = better.rows()[0]
    assert row["beyond"] and row["loss"] < row["adam"]


# Who plays -------------------------------------------------------------------------------------


def test_an_agent_may_be_a_name_or_a_table() -> None:
    same = [tiny(agent) for agent in (agents.SGD(), "sgd", {"name": "sgd"}, {"name": "sgd", "lr": 0.01})]
    assert len({found.speedup for found in same}) == 1
    assert [found.agent for found in same] == ["SGD", "sgd", "SGD", "SGD"]


def test_learned_weights_of_a_file_and_of_a_row(tmp_path: Path) -> None:
    rule = agents.LOLv2(hidden=4, step_multiplier=0.1, seed=3)
    rule.save(tmp_path / "rule.safetensors")
    own = tiny(rule)
    loaded = tiny(agents.LOLv2.load(tmp_path / "rule.safetensors"))
    row = tiny(rule.replace(weights=rule.flat.detach().unsqueeze(0)))
    other = tiny(agents.LOLv2(hidden=4, step_multiplier=0.1, seed=4))
    assert own.speedup == loaded.speedup == pytest.approx(row.speedup, rel=1e-5)
    assert own.speedup != other.speedup
    with pytest.raises(ValueError, match=r"weights: expected one set \(1, D\), got 2"):
        tiny(rule.replace(weights=rule.flat.detach().repeat(2, 1)))


def test_a_policy_of_stable_baselines() -> None:
    from stable_baselines3 import PPO

    task = optenvs.make("Quadratic", dim=2, bounds="domain", budget=9)
    env = optenvs.make_sb3(task)
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")
    points = {"env": "optenvs/Quadratic-v0", "dim": 2, "bounds": "domain"}
    asked = tiny(agents.from_sb3(model), tasks=points)
    assert asked.calls["gradient"] == SEEDS * (STEPS + 1)
    control = StepSizeControl(optenvs.make("LeastSquares", dim=2, budget=9), agents.SGD(), repeat=3)
    model = PPO(
        "MultiInputPolicy", optenvs.make_sb3(control), n_steps=8, batch_size=8, n_epochs=1, device="cpu"
    )
    found = tiny(agents.from_sb3(model), wrap=lambda task: StepSizeControl(task, agents.SGD(), repeat=3))
    assert found.calls["gradient"] == SEEDS * (STEPS + 1)
    losses = found.courses[0].losses
    assert torch.equal(losses[1], losses[0]) and not torch.equal(losses[3], losses[0])
    with pytest.raises(ValueError, match="from_sb3: the model was trained on"):
        tiny(agents.from_sb3(model))


def test_an_agent_that_takes_no_gradient_pays_for_its_queries_alike() -> None:
    seen: list[set[str]] = []

    def spiral(observation: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(set(observation))
        return 0.9 * observation["point"]

    found = tiny(agents.from_function(spiral, needs=("value",)))
    assert "gradient" in seen[0]  # it may look, and does not
    assert found.calls["gradient"] == SEEDS * (STEPS + 1)
    assert 0 <= found.speedup < 1


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "keywords", "kind", "message"),
    [
        (("sgd", "function"), {}, UnknownName, "no 'function'; did you mean 'functions'"),
        (("sgd", "seed"), {"tasks": TINY}, UnknownName, "did you mean 'seeds'"),
        (("sgd", "seeds"), {}, ValueError, "'seeds' is of tasks that you name"),
        (("sgd", "quadratics"), {"tasks": TINY}, ValueError, "tasks: .* would have no effect"),
        (("sgd", "quadratics"), {"steps": 501}, ValueError, "501 .* the 500 .* quadratics-horizons is 2500"),
        (("sgd", "quadratics-horizons"), {"steps": 2501}, ValueError, "2501 are more than the 2500"),
        (("sgd", "quadratics"), {"steps": 0}, ValueError, "steps: expected a whole number >= 1, got 0"),
        (("sgd", "quadratics"), {"steps": 1.5}, ValueError, "steps: expected a whole number >= 1, got 1.5"),
        (("sgd", 3), {}, TypeError, "split: expected a name or a table"),
        (("sgd", {"seed": 3}), {}, ValueError, "split: expected tasks"),
        (("sgd", {"task": TINY}), {}, TypeError, "split: expected one of"),
        (("sgdd", "quadratics"), {}, UnknownName, "no agent 'sgdd'; did you mean 'sgd'"),
        (({"lr": 0.1}, "quadratics"), {}, TypeError, "agent: expected a table with an agent's 'name'"),
        (({"name": "sgd", "rate": 0.1}, "quadratics"), {}, UnknownKeyword, "rate"),
        ((agents.SGD, "quadratics"), {}, TypeError, "an object with init and act, .* got the class SGD"),
        ((3, "quadratics"), {}, TypeError, "an object with init and act, .* got int"),
        (("zo_ranksgd", "quadratics"), {}, OracleMismatch, "ZORankSGD needs the oracle.* ranking"),
        (("sgd", "quadratics"), {"wrap": lambda task: 3}, TypeError, "wrap: expected a wrapper around"),
        (("sgd", "quadratics"), {"dtype": "int8"}, ValueError, "dtype: expected 'float32' or 'float64'"),
        (("sgd", "quadratics"), {"device": "moon"}, ValueError, "device: 'moon' cannot be used here"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    kind: type[Exception],
    message: str,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(tables, "computed", lambda *_: pytest.fail("a table was computed"))
    with pytest.raises(kind, match=message):
        optenvs.score(*arguments, **keywords)


def test_a_task_must_be_known() -> None:
    with pytest.raises(UnknownName, match="no environment 'Rosenbrok'"):
        tiny("sgd", tasks="Rosenbrok")


# Splits and tables -----------------------------------------------------------------------------


def test_the_published_splits_are_listed_and_have_tables() -> None:
    names = optenvs.list_splits()
    assert names == sorted(names)
    families = {name.removesuffix("-horizons") for name in names}
    assert families == {"functions", "networks", "quadratics"}
    assert len(names) == 2 * len(families)
    assert {published(name).steps for name in names if name.endswith("-horizons")} == {2500}
    assert {published(name).steps for name in families} == {500}
    seeds = [published(name).split.seed for name in names]
    assert len({*seeds, SPLITS["seeds"].seed, SPLITS["horizons"].seed}) == len(names) + 2
    files = sorted(tables.shipped("quadratics").parent.iterdir())
    assert {"quadratics", "functions", "networks"} <= {path.stem for path in files} <= {*names}
    assert sum(path.stat().st_size for path in files) <= 200_000
    for path in files:
        one = published(path.stem)
        table = tables.table_of(one)
        assert table.envelopes.shape == (len(one.tasks), 512)
        assert table.length == 4 * one.steps
        # the grid is wide enough: its ends are no one's best, but where steps across basins help
        for label, rate in zip(one.labels, table.tuned, strict=True):
            assert table.rates[0] < rate
            assert rate < table.rates[-1] or label.startswith("StyblinskiTang"), (path.stem, label)


def test_a_table_is_computed_once_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    plain = tables.computed

    def counting(*arguments: Any) -> tables.AdamTable:
        nonlocal count
        count += 1
        return plain(*arguments)

    monkeypatch.setattr(tables, "computed", counting)
    before = set(folder.iterdir())
    first = tiny("sgd", steps=6)
    assert count == 1
    (made,) = set(folder.iterdir()) - before
    assert tiny("sgd", steps=6).speedup == first.speedup
    assert count == 1
    made.write_bytes(made.read_bytes()[:-9] + b"\0" * 9)  # damaged: it is made anew
    assert tiny("sgd", steps=6).speedup == first.speedup
    assert count == 2
    tiny("sgd", steps=6, tasks={**TINY, "dim": 3})
    optenvs.score("sgd", "horizons", tasks=TINY, steps=6)  # other instances
    assert count == 4
    monkeypatch.setenv("OPTENVS_CACHE", str(made))  # no folder: nothing is kept, and nothing lost
    assert tiny("sgd", steps=6).speedup == first.speedup
    assert count == 5


def test_a_shipped_table_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = published("quadratics")
    table, path = tables.table_of(whole), tmp_path / "quadratics.safetensors"
    monkeypatch.setattr(tables, "shipped", lambda name: path)
    path.write_bytes(b"damaged")
    with pytest.raises(
        ValueError, match="'quadratics': its table .* cannot be used .*python -m optenvs.scoring"
    ):
        tables.table_of(whole)
    table.save(path, dataclasses.replace(whole, steps=400))
    with pytest.raises(ValueError, match="declared otherwise"):
        optenvs.score("sgd", "quadratics")
    path.unlink()  # one without a file is computed, like any other
    monkeypatch.setattr(tables, "computed", lambda split, progress: table)
    assert torch.equal(tables.table_of(whole).envelopes, table.envelopes)


def test_a_bar_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny("sgd", steps=5)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("optenvs.scoring.progress._EVERY", -1.0)
    tiny("sgd", steps=4)
    told = capsys.readouterr().err
    assert "Adam's table of seeds [###" in told and "100%" in told
    tiny("sgd", steps=4, progress=False)
    assert capsys.readouterr().err == ""


# Table, plot, file -----------------------------------------------------------------------------


def test_a_table_of_one_and_of_several() -> None:
    found = [tiny("sgd"), tiny("adam", name="Adam, as it comes")]
    lines = str(found[0]).splitlines()
    assert lines[0] == f"sgd on seeds, {STEPS} steps"
    assert lines[1].split() == ["task", "speed-up", "loss", "Adam's", "loss", "failed", "calls", "seconds"]
    assert (
        lines[2].startswith("LeastSquares(dim=2)") and f"0/{SEEDS}" in lines[2] and "45 gradient" in lines[2]
    )
    assert lines[3].startswith("all")
    both = side_by_side(found).splitlines()
    assert both[2].startswith("Adam, as it comes") and f"{found[1].speedup:.2f}" in both[2]
    with pytest.raises(
        ValueError, match="of one split and as many steps, got sgd: seeds, 8 steps, sgd: seeds, 6"
    ):
        side_by_side([found[0], tiny("sgd", steps=6)])
    with pytest.raises(ValueError, match="got none"):
        side_by_side([])


def test_a_plot_shows_both_curves(tmp_path: Path) -> None:
    found = tiny("sgd")
    figure = found.plot(tmp_path / "score.png")
    assert (tmp_path / "score.png").read_bytes().startswith(b"\x89PNG")
    panel, speed = figure.axes
    adam, own = panel.lines
    assert own.get_ydata().tolist() == found.courses[0].curve.tolist()
    assert adam.get_ydata().tolist() == found.courses[0].adam.tolist()
    assert speed.lines[-1].get_ydata().tolist() == found.speedups.tolist()


def test_a_score_is_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "score.safetensors"
    found = tiny("sgd")
    found.save(path)
    again = optenvs.Score.load(path)
    assert again.table() == found.table() and repr(again) == repr(found)
    assert torch.equal(again.speedups, found.speedups)
    assert again.calls == found.calls
    path.write_bytes(path.read_bytes().replace(b"seeds", b"seens"))
    with pytest.raises(ValueError, match=r"score\.safetensors: not a readable score .*checksum"):
        optenvs.Score.load(path)
    agents.LOLv2(hidden=2).save(path)
    with pytest.raises(ValueError, match="not a readable score .*format 'optenvs-learned"):
        optenvs.Score.load(path)
    with pytest.raises(FileNotFoundError):
        optenvs.Score.load(tmp_path / "none")
