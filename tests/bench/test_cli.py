"""The command line: what each command prints, its exit codes, and that mistakes are one line."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import agents
import optenvs
from envs_registry import ENVIRONMENTS, PLAIN, EnvSpec
from optenvs.bench import experiment
from optenvs.bench.cli import main
from optenvs.bench.docstrings import split_docstring
from optenvs.bench.report import read_table
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


ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("env_id", sorted(PLAIN))
def test_info_tells_a_plain_environment(env_id):
    text = call("info", env_id).stdout
    for part in (env_id, "gymnasium.make", "Discrete(5)", "level_seed"):
        assert part in text
    assert "none: plain Gymnasium" in call("list", "--family", PLAIN[env_id].family).stdout
    assert "plain environment and no oracle" in mistake("check", env_id)


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_info_tells_every_keyword_of_every_environment(env_id):
    from optenvs.bench.describe import describe

    found = describe(env_id)
    assert found.facts or found.problem
    assert [k.name for k in found.keywords if not k.text] == []
    assert not any("...: see" in k.text for k in found.keywords)
    assert [name for name, _, meaning in found.fields if not meaning] == []
    if found.fields:
        kinds = {name.split()[0] for name, *_ in found.fields}
        assert kinds == {"action", "observation", "metric"}
    assert not any("``" in k.text or ":class:" in k.text for k in found.keywords)


@pytest.mark.parametrize(
    ("env_id", "keywords"),
    [
        ("Rosenbrock", {"oracle": "hessian"}),
        ("Rosenbrock", {"oracle": "hvp", "bounds": "domain"}),
        ("Biodiesel", {"points": 3, "oracle": "vjp"}),
        ("Biodiesel", {"points": 3, "oracle": "jacobian", "formulation": "constraints"}),
        ("NetworkQuadratic", {"clock": "rounds"}),
        ("NetworkQuadratic", {"oracle": "conjugate"}),
        ("TrainDigits", {"oracle": "minibatch"}),
        ("Particles", {"landscape": "Ackley", "recommend": "mean", "oracle": "gradient"}),
        ("Ranking", {"recommend": "top"}),
    ],
)
def test_info_tells_the_fields_of_other_settings(env_id, keywords):
    from optenvs.bench.describe import describe

    assert [name for name, _, meaning in describe(env_id, **keywords).fields if not meaning] == []


def test_the_program_says_its_version_and_its_agents():
    assert call("--version").stdout == f"optenvs {optenvs.__version__}\n"
    some = call("agents", "--needs", "ranking").stdout
    assert "zo_ranksgd" in some and "adam" not in some
    every = call("agents").stdout
    assert all(name in every for name in agents.list_agents())
    assert "no 'rankings'; did you mean 'ranking'" in mistake("agents", "--needs", "rankings")
    assert "did you mean 'optenvs/Rosenbrock-v0'" in mistake("info", "rosenbrock")
    assert optenvs.EnvSpec is EnvSpec and issubclass(agents.LSTMOptimizer, agents.LearnedAgent)


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


LABELS = ("NA", "1", "null", "cost $1_$", "$5 a_b to $10", "\U0001f600", "_left")


def test_labels_are_as_written_whatever_the_terminal_can_show(tmp_path):
    config, out = tmp_path / "labels.toml", tmp_path / "out"
    agents_ = "".join(
        f'[[agents]]\nname = "sgd"\nlabel = "{label}"\nkwargs = {{ lr = {1e-4 * (i + 1)} }}\n'
        for i, label in enumerate(LABELS)
    )
    head = EXPERIMENT.replace("Valley", "null").partition("[[agents]]")[0]
    config.write_text(head + agents_ + '[[agents]]\nname = "sgd"\nlabel = "bad"\nkwargs = { lr = 10.0 }\n')
    command = [sys.executable, "-m", "optenvs", "bench", str(config), "--out", str(out)]
    env = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode("cp1252")
    assert "inf" in shown and "$5 a_b to $10" in shown and "nan" not in shown
    assert f"bench {config} --out {out}" in (out / "report.html").read_text()
    table = read_table(out / "table.csv")
    assert table["agent"].tolist() == [*LABELS, "bad"]
    assert set(table["environment"]) == {"null"}
    markdown = (out / "table.md").read_text()
    assert r"\$5 a_b to \$10" in markdown and r"cost \$1\_\$" in markdown


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
    told = mistake("bench", config, "--out", tmp_path / "file")
    assert told.endswith("file' is a file; expected a folder")
    told = mistake("bench", config, "--out", "/proc/nowhere")
    assert "nothing can be written to the folder '/proc/nowhere' (No such file or directory)" in told
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    assert "latin.toml: not a TOML file, which is in UTF-8" in mistake("bench", tmp_path / "latin.toml")
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    assert "manifest.json: not a readable manifest" in mistake("report", tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert "no folder" in mistake("report", tmp_path / "nowhere")
    assert "no judged runs" in mistake("report", tmp_path)


def test_an_agent_and_a_problem_of_the_users_own(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    config = tmp_path / "own.toml"
    text = EXPERIMENT.replace('"optenvs/Rosenbrock-v0"', '"mine:problem"').replace(
        "[1e-4, 1e-3]", "[0.1, 0.2]"
    )
    config.write_text(
        "modules = ['mine']"
        + text.replace('"sgd"', '"mine:SignSGD"')
        + '[[agents]]\nname = "sign"\nlabel = "named"\n'
    )
    try:
        first = call("bench", config, "--out", tmp_path / "out")
        assert first.exit_code == 0, first.output
        assert "6 runs computed, 0 found" in first.stdout
        assert "0 runs computed" in call("bench", config, "--out", tmp_path / "out").stdout
        (tmp_path / "mine.py").write_text(OWN + "\n# another text\n")
        assert "6 runs computed" in call("bench", config, "--out", tmp_path / "out").stdout
        assert "mine:Sgn" in mistake(
            "bench", changed(config, "mine:SignSGD", "mine:Sgn"), "--out", tmp_path / "no"
        )
        assert "no module 'nine'" in mistake(
            "bench", changed(config, "mine:Sgn", "nine:SignSGD"), "--out", tmp_path / "no"
        )
        assert not (tmp_path / "no").exists()
    finally:
        agents._AGENTS.pop("sign", None)


OWN = """
from dataclasses import dataclass
import agents, optenvs
from agents.core import Agent

problem = optenvs.from_function(lambda x: (x**2).sum(), dim=2, start=(1.0, 2.0))

@dataclass(frozen=True, eq=False)
class SignSGD(Agent):
    lr: float = 0.05
    needs = ("gradient",)

    def init(self, problem, observation, keys):
        return None

    def act(self, state, observation):
        return observation["point"] - self.lr * observation["gradient"].sign(), None

agents.register("sign", "mine:SignSGD", ("gradient",))
"""


def changed(config, old, new):
    config.write_text(config.read_text().replace(old, new))
    return config


def test_the_example_of_an_experiment_file_runs(tmp_path):
    text = inspect.cleandoc(experiment.__doc__.partition("::")[2].partition("Modules of yours")[0])
    config = tmp_path / "demo.toml"
    config.write_text(
        text.replace("budget = 1000", "budget = 20").replace('backend = "loky"', 'backend = "sequential"')
    )
    done = call("bench", config, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "19 runs computed" in done.stdout


def test_the_quickstart_says_what_it_is():
    script = ["bash", str(ROOT / "examples/quickstart.sh")]
    said = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "bash examples/quickstart.sh [folder]" in said
    wrong = subprocess.run([*script, "--hlp"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "no option --hlp" in wrong.stderr) == (2, True)


def test_help_names_the_commands():
    text = call("--help").stdout
    assert all(command in text for command in ("list", "info", "check", "bench", "report"))
