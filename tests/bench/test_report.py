"""From records to the report: who is compared, what is refused, and a page that stands alone."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import agents
import optenvs
from optenvs.bench import plots
from optenvs.bench.curves import split_curves
from optenvs.bench.manifest import MANIFEST
from optenvs.bench.report import report, table_rows
from optenvs.bench.results import Measure, RunRecord, RunSpec, write
from optenvs.bench.summary import Comparison

INF = np.inf


@pytest.fixture
def records(make_record):
    runs = []
    for environment, rate in [("Quadratic", 0.05), ("Ackley", 0.02)]:
        for agent, factor in [("adam", 1.0), ("sgd", 0.5)]:
            for i in range(4):
                status = "diverged" if (environment, agent, i) == ("Ackley", "sgd", 3) else "ok"
                speed = rate * factor
                runs.append(
                    make_record(
                        environment,
                        agent,
                        i,
                        rate=speed,
                        noise=0.1,
                        status=status,
                        lr=0.1,
                    )
                )
    return runs


def test_table_and_costs(make_record):
    runs = [make_record(agent="fast", repetition=i, rate=0.2) for i in range(3)]
    runs += [make_record(agent="slow", repetition=i, rate=0.1) for i in range(3)]
    runs += [make_record(agent="slow", phase="tune")]
    comparison = Comparison(runs)
    assert comparison.agents == ["fast", "slow"]
    table = comparison.table().set_index("agent")
    assert table.loc["fast", "runs"] == 3
    assert table.loc["fast", "median"] == pytest.approx(11 * np.exp(-20))
    # exp(-rate t) <= 0.1 at t = ln(10) / rate: 12 and 24 whole calls of 100.
    assert comparison.costs([0.1])[:, :, 0].tolist() == [[0.12, 0.24]] * 3
    assert comparison.scores["fast"].estimate == 1


def test_failures_count_as_infinite(records):
    table = Comparison(records).table().set_index(["environment", "agent"])
    assert table.loc[("Ackley", "sgd"), "failures"] == 1
    assert np.isfinite(table.loc[("Ackley", "sgd"), "median"])
    costs = Comparison(records).costs([0.9])
    assert np.isinf(costs).sum() == 1


def test_order_is_that_of_the_experiment(records):
    config = {"environments": [{"label": "Quadratic"}], "agents": [{"label": "sgd"}]}
    runs = [dataclasses.replace(r, config=config) for r in records]
    comparison = Comparison(runs)
    assert comparison.environments == ["Quadratic", "Ackley"]
    assert comparison.agents == ["sgd", "adam"]


def test_missing_runs_are_noted_and_not_failures(records):
    comparison = Comparison(records[:-1])
    assert comparison.notes == ["Ackley, sgd: 1 of 4 runs not done yet"]
    assert len(comparison.problems) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 50}, "budget"),
        ({"cost": "calls/value"}, "cost"),
        ({"hyperparameters": {"lr": 1.0}}, "hyperparameters"),
        ({"environment_kwargs": {"dim": 3}}, "environment_kwargs"),
        ({"suite": "again"}, "two runs with one seed"),
    ],
)
def test_what_is_unequal_is_not_compared(records, change, message):
    other = dataclasses.replace(records[0], spec=dataclasses.replace(records[0].spec, **change))
    with pytest.raises(ValueError, match=message):
        Comparison([*records, other])


def test_no_judged_runs_is_an_error(make_record, tmp_path):
    write(make_record(phase="tune"), tmp_path)
    with pytest.raises(ValueError, match="no judged runs"):
        report(tmp_path)


class _Page(HTMLParser):
    """Collects what a browser would fetch, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.sources += [named[key] for key in ("src", "srcset", "data") if key in named]
        self.links += [named["href"]] if "href" in named else []
        self.ids.add(named.get("id"))
        assert tag not in ("script", "link", "iframe")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_stands_alone(records, tmp_path):
    for record in records:
        write(record, tmp_path)
    paths = report(tmp_path)
    assert all(path.exists() for path in paths)
    assert paths[0].name == "report.html"
    text = paths[0].read_text()
    page = _Page()
    page.feed(text)
    assert not page.open
    assert len(page.sources) == 7
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link[1:] in page.ids for link in page.links)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 4
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 6
    assert len({line.count("|") for line in lines}) == 1


def test_report_is_reproducible(records, tmp_path):
    for record in records:
        write(record, tmp_path)
    first = [path.read_bytes() for path in report(tmp_path)]
    assert first == [path.read_bytes() for path in report(tmp_path, tmp_path / "elsewhere")]


@pytest.mark.usefixtures("unpainted")
def test_names_are_escaped(make_record, tmp_path):
    record = make_record(agent="<script>alert(1)</script>|x")
    write(record, tmp_path)
    text = report(tmp_path)[0].read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.usefixtures("unpainted")
def test_manifest_chooses_the_runs(records, make_record, tmp_path):
    for record in records:
        write(record, tmp_path)
    write(make_record("Quadratic", "adam", 0, lr=0.5), tmp_path)  # an earlier tuning's choice
    with pytest.raises(ValueError, match="hyperparameters"):
        report(tmp_path)
    wanted = [record.spec.run_id for record in records]
    (tmp_path / MANIFEST).write_text(json.dumps({"runs": [*wanted, "0" * 16]}))
    text = report(tmp_path)[0].read_text()
    assert "1 judged runs of earlier settings" in text
    assert "1 of 17 runs are not done yet" in text


@pytest.mark.usefixtures("unpainted")
def test_damaged_files_are_told(records, tmp_path):
    for record in records:
        path = write(record, tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    text = report(tmp_path)[0].read_text()
    assert "treated as missing" in text
    assert "1 of 4 runs not done yet" in text


@pytest.mark.parametrize("count", [1, 9])
def test_report_of_hard_cases(make_record, tmp_path, count):
    # One run each; one agent that always raised; a zero gap; more agents than colours.
    for i in range(count):
        write(make_record(agent=f"agent {i}", rate=0.1 * i), tmp_path)
    failed = make_record(agent="broken")
    write(dataclasses.replace(failed, status="error: boom", curves={}), tmp_path)
    zero = make_record(agent="exact")
    gap = np.where(np.arange(101) < 3, 1.0, 0.0)
    write(dataclasses.replace(zero, curves={**zero.curves, "metrics/gap": gap}), tmp_path)
    assert report(tmp_path)


def test_any_ledger_column_is_an_axis(records):
    comparison = Comparison(records)
    for axis in (None, "calls/value", "time"):
        figure = plots.progress(comparison, axis, band="bootstrap")
        assert len(figure.axes) == 2
    assert plots.progress(comparison, "calls/value").axes[0].get_xlim()[1] == 200
    assert plots.progress(comparison).axes[0].get_xlim()[1] == 100
    plots.progress(comparison, "calls/hvp")  # a column that no run has


@pytest.mark.usefixtures("unpainted")
def test_more_axes_in_the_report(records, tmp_path):
    for record in records:
        write(record, tmp_path)
    paths = report(tmp_path, axes=["value"])
    assert paths[-1].name == "progress_value.png"
    assert 'id="progress_value"' in paths[0].read_text()
    with pytest.raises(ValueError, match="no ledger column 'hvp'; there are calls/gradient, "):
        report(tmp_path, axes=["hvp"])


@pytest.mark.usefixtures("unpainted")
def test_an_agents_own_work_is_an_axis(tmp_path):
    env = optenvs.make("ReluBox", oracle="value", white_box=True, budget=8, points=1)
    run = optenvs.rollout(env, agents.RelaxAndWalk(), batch=2)
    cost, metric = f"calls/{next(iter(env.bill))}", "metrics/merit"
    spec = {"suite": "demo", "environment": "optenvs/ReluBox-v0", "agent": "relax_and_walk", "phase": "judge"}
    for i, curves in enumerate(split_curves(env, run, cost, metric)):
        assert curves["work/piece"].tolist() == run.work["piece"][:, i].tolist()
        numbers = {"instance": i, "repetition": i, "seed": i, "budget": 8, "cost": cost}
        write(RunRecord(RunSpec(**spec, **numbers), "ok", curves, Measure(metric=metric)), tmp_path)
    paths = report(tmp_path, axes=["work:piece"])
    assert paths[-1].name == "progress_work_piece.png"
    with pytest.raises(ValueError, match="no ledger column 'work:hvp'; .*work/piece, work/relax"):
        report(tmp_path, axes=["work:hvp"])
    # a count of work never falls
    with pytest.raises(ValueError, match="never decreases"):
        RunRecord(
            RunSpec(**spec, **numbers),
            "ok",
            curves | {"work/piece": -curves["work/piece"]},
            Measure(metric=metric),
        )


def test_other_metrics_are_those_of_the_last_point(make_record):
    records = [make_record(agent="adam", repetition=i) for i in range(3)]
    accuracy = np.linspace(0, 1, 101)
    records = [
        dataclasses.replace(r, curves={**r.curves, "metrics/accuracy": accuracy * 0.1 * (i + 1)})
        for i, r in enumerate(records)
    ]
    failed = dataclasses.replace(make_record(agent="sgd"), status="diverged")
    table = Comparison([*records, failed]).other_metrics().set_index("agent")
    assert table.loc["adam", "accuracy"] == pytest.approx(0.2)
    assert np.isnan(table.loc["sgd", "accuracy"])
    assert "gap" not in table


def test_what_is_measured_at_some_rows_is_drawn_at_these(make_record):
    record = make_record()
    rows = np.arange(101) % 20 == 0
    loss = np.repeat(record.curves["metrics/gap"][rows], 20)[:101]
    curves = {**record.curves, "metrics/gap": loss, "evaluated": rows}
    comparison = Comparison([dataclasses.replace(record, curves=curves)])
    (cell,) = comparison.cells.values()
    assert cell.measured("calls/gradient").tolist() == [0, 20, 40, 60, 80, 100]
    assert cell.measured("calls/value").tolist() == [0, 40, 80, 120, 160, 200]
    for axis, last in (("calls/gradient", 100), ("calls/value", 200)):
        line = plots.progress(comparison, axis).axes[0].lines[0]
        assert line.get_xdata().tolist() == np.linspace(0, last, 6).tolist()
        np.testing.assert_array_equal(line.get_ydata(), loss[rows])
    every = dataclasses.replace(record, curves={**record.curves, "evaluated": rows})
    (cell,) = Comparison([every]).cells.values()
    assert cell.measured("calls/gradient") is None  # it changes between these rows


def test_an_end_of_the_grid_is_told(make_record):
    def notes(lr):
        config = {"environments": [], "agents": [{"label": "adam", "grid": {"lr": [0.1, 1, 10.0]}}]}
        runs = [make_record(repetition=i, lr=lr) for i in range(2)]
        return Comparison([dataclasses.replace(r, config=config) for r in runs]).notes

    (low,) = notes(0.1)
    assert "adam on Quadratic (lowest lr, 0.1)" in low
    (high,) = notes(10.0)
    assert "adam on Quadratic (highest lr, 10)" in high
    assert notes(1) == []


def test_what_is_as_good_as_the_best_is_marked(make_record):
    runs = [
        make_record(agent=agent, repetition=i, rate=rate)
        for agent, rate in [("a", 0.5), ("b", 0.3), ("c", 0.05)]
        for i in range(2)
    ]
    # the gaps end near 1e-21, 1e-12 and 0.07 of a start of 10: the first two differ by nothing
    rows = table_rows(Comparison(runs).table())
    assert [row["best"] for row in rows] == [True, True, False]


def test_every_agent_keeps_its_line(records):
    comparison = Comparison(records)
    colours = [line.get_color() for line in plots.progress(comparison).axes[0].lines[:2]]
    assert colours == [line.get_color() for line in plots.data_profiles(comparison).axes[0].lines]


def test_matplotlib_is_imported_lazily():
    code = "import sys, optenvs.bench.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
