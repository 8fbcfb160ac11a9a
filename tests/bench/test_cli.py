"""The command line: what each command prints, its exit codes, and that mistakes are one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import optenvs
from envs_registry import ENVIRONMENTS, EnvSpec
from optenvs.bench.cli import main
from optenvs.bench.describe import split_docstring
from optenvs.envs.landscapes.classic import Rosenbrock

EXPERIMENT = """
name = "tiny"
tuning_seeds = 1
judging_seeds = 2
budget = 20

[[environments]]
id = "optenvs/Rosenbrock-v0"
label = "Valley"

[[agents]]
name = "sgd"
grid = { lr = [1e-4, 1e-3] }
"""


class Wrong(Rosenbrock):
    """Its gradient is twice that of its value."""

    def value_and_gradient(self, x, coefficients):
        value, gradient = super().value_and_gradient(x, coefficients)
        return value, 2 * gradient


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def mistake(*arguments):
    """The one line of a mistake."""
    result = call(*arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_list():
    every = call("list")
    assert every.exit_code == 0
    assert all(env_id in every.stdout for env_id in optenvs.list_envs())
    some = call("list", "--family", "training", "--oracle", "minibatch").stdout
    assert "TrainDigits" in some
    assert "Rosenbrock" not in some
    assert "did you mean 'landscapes'" in mistake("list", "--family", "landscape")
    assert "no 'gradients'; did you mean 'gradient'" in mistake("list", "--oracle", "gradients")


def test_list_loads_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from optenvs.bench.cli import main\n"
        "assert CliRunner().invoke(main, ['list']).exit_code == 0\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'scipy', 'joblib', 'stable_baselines3', 'starlette'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_info():
    text = call("info", "Rosenbrock").stdout
    for part in ("optenvs/Rosenbrock-v0", "landscapes", "Rosenbrock, An automatic", "1 gradient, 1 value"):
        assert part in text
    assert "Box(-inf, inf, (2,), float32)" in text
    assert "standard deviation of the Gaussian noise" in text
    assert "(7,)" in call("info", "Rosenbrock", "--set", "dim=7").stdout
    assert "hvp" in call("info", "Rosenbrock", "--set", "oracle=hvp").stdout
    assert "did you mean 'optenvs/Rosenbrock-v0'" in mistake("info", "optenvs/Rosenbrok-v0")
    assert "dim: Rosenbrock needs at least 2" in mistake("info", "Rosenbrock", "--set", "dim=1")
    assert "expected KEY=VALUE, got 'dim'" in mistake("info", "Rosenbrock", "--set", "dim")


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_info_tells_every_keyword_of_every_environment(env_id):
    from optenvs.bench.describe import describe

    found = describe(env_id)
    assert found.facts or found.problem
    assert [k.name for k in found.keywords if not k.text] == []
    assert not any("``" in k.text or ":class:" in k.text for k in found.keywords)


def test_docstrings_are_read():
    class Example:
        """One line.

        More of ``it``.

        Args:
            one: the first, see
                :class:`~somewhere.Thing`.
            two, three: both
                of them.

        Raises:
            ValueError: never.
        """

    text, arguments = split_docstring(Example)
    assert text == "One line.\n\nMore of it."
    assert arguments == {"one": "the first, see Thing.", "two": "both of them.", "three": "both of them."}


def test_check():
    good = call("check", "Rosenbrock", "--set", "dim=3", "--set", "dtype=float64")
    assert good.exit_code == 0
    assert "checks passed" in good.stdout
    spec = EnvSpec(
        id="test/Wrong-v0",
        entry_point=f"{__name__}:Wrong",
        family="landscapes",
        oracles=("value", "gradient"),
        summary="A gradient that is none",
    )
    ENVIRONMENTS[spec.id] = spec
    try:
        bad = call("check", spec.id, "--set", "dtype=float64")
    finally:
        del ENVIRONMENTS[spec.id]
    assert bad.exit_code == 1
    assert "FAILED oracle" in bad.stdout
    assert "no environment 'nothing'" in mistake("check", "nothing")
    assert "'dims'; did you mean 'dim'" in mistake("check", "Rosenbrock", "--set", "dims=3")


def test_bench_and_report(tmp_path):
    config, out = tmp_path / "tiny.toml", tmp_path / "out"
    config.write_text(EXPERIMENT)
    first = call("bench", config, "--out", out)
    assert first.exit_code == 0
    assert "Valley" in first.stdout
    assert "4 runs computed, 0 found" in first.stdout
    assert (out / "report.html").exists()
    assert "optenvs bench" in (out / "report.html").read_text()
    second = call("report", out)
    assert second.exit_code == 0
    assert not (out / "progress_value.png").exists()
    assert call("report", out, "--axis", "value").exit_code == 0
    assert (out / "progress_value.png").exists()
    assert "no ledger column 'hvp'" in mistake("report", out, "--axis", "hvp")
    table = second.stdout.split("report:")[0]
    assert table in first.stdout


def test_mistakes_of_a_bench(tmp_path):
    config = tmp_path / "tiny.toml"
    assert "no file" in mistake("bench", config)
    assert "no packaged experiment 'quik'" in mistake("bench", "quik")
    config.write_text("name = ")
    assert "not a TOML file" in mistake("bench", config)
    config.write_text(EXPERIMENT.replace("judging_seeds", "judgingseeds"))
    assert "judging_seeds: missing" in mistake("bench", config)
    config.write_text(EXPERIMENT.replace("Rosenbrock-v0", "TrainCifar10-v0"))
    assert "data set 'cifar10'" in mistake("bench", config, "--out", tmp_path / "out")
    config.write_text(EXPERIMENT)
    (tmp_path / "file").touch()
    assert "file" in mistake("bench", config, "--out", tmp_path / "file")
    assert "no folder" in mistake("report", tmp_path / "nowhere")
    assert "no judged runs" in mistake("report", tmp_path)


def test_help_names_the_commands():
    text = call("--help").stdout
    assert all(command in text for command in ("list", "info", "check", "bench", "report"))
