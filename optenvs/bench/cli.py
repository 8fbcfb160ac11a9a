"""The command line: ``optenvs list | agents | info | check | bench | report | score | splits | rank``.

Only what a command needs is imported, and only when it runs: ``optenvs list`` loads no torch. A mistake is
one line on standard error and exit code 2; a check that fails, or a run that raised, is exit code 1.
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
    from rich.markup import escape
    from rich.table import Table
except ModuleNotFoundError as error:
    raise SystemExit(f"error: {error}; the command line needs: pip install 'optenvs[bench]'") from None

import optenvs
from envs_registry import ENVIRONMENTS, PLAIN
from optenvs.bench.scoring import score, splits
from optenvs.bench.terminal import keywords_of, new_console, one_line
from optenvs.program import raise_again

if TYPE_CHECKING:
    from optenvs.bench.experiment import Experiment

main = typer.Typer(
    name="optenvs",
    help="""Optimization problems as Gymnasium environments.

    Begin with: optenvs list, optenvs info Rosenbrock, optenvs bench quickstart.""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_SIGNS = {"∞": "inf", "–": "-", "é": "e"}

EnvironmentId = Annotated[
    str, typer.Argument(metavar="ID", help="For example optenvs/Rosenbrock-v0, or Rosenbrock.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A keyword of the environment, as in TOML."),
]


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """For what a terminal's encoding lacks: a run must not be lost to a sign."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_SIGNS.get(sign, "?") for sign in lacking), error.end


def _shown(value: Any) -> Any:
    """A text as standard output will show it: a table is laid out after that, for substitutes are longer."""
    encoding = sys.stdout.encoding or "utf-8"
    return value.encode(encoding, "optenvs.substitute").decode(encoding) if isinstance(value, str) else value


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"optenvs {optenvs.__version__}")
        raise typer.Exit


@main.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What all commands share: any encoding will do, and modules in this folder are found."""
    codecs.register_error("optenvs.substitute", _substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="optenvs.substitute")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last: a folder here must not stand for an installed package


def _known(option: str, value: str | None, known: set[str]) -> None:
    if value is not None and value not in known:
        from optenvs.core.errors import suggest  # loads torch

        raise ValueError(f"{option}: no {value!r}{suggest(value, known)}")


@main.command(name="list")
def list_environments(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    oracle: Annotated[str | None, typer.Option(help="Only those that can answer this.")] = None,
) -> None:
    """List the environments."""
    with one_line():
        _known("--family", family, {spec.family for spec in ENVIRONMENTS.values()})
        _known("--oracle", oracle, {kind for spec in ENVIRONMENTS.values() for kind in spec.oracles})
    table = Table("id", "family", "oracles", "summary", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    plain = optenvs.list_envs(family=family, oracle=oracle, plain=True)
    for env_id in (*optenvs.list_envs(family=family, oracle=oracle), *plain):
        spec = (ENVIRONMENTS | PLAIN)[env_id]
        oracles = ", ".join(spec.oracles) or "none: plain Gymnasium"
        table.add_row(env_id, spec.family, oracles, escape(spec.summary))
    new_console().print(table)


@main.command(name="agents")
def list_agents(
    needs: Annotated[str | None, typer.Option(help="Only those that need this oracle.")] = None,
) -> None:
    """List the agents, by the names that experiment files use.

    In Python, agents.make takes them. "takes" says what an agent can do with and others of its kind refuse:
    constraints (of two levels: the lower one's), bounds, answers that rest on mini-batches.
    """
    from optenvs import agents
    from optenvs.bench.docstrings import first_line

    entries = {name: agents.entry(name) for name in agents.list_agents()}
    every = "|".join(kind for *_, kinds in entries.values() for kind in kinds)
    with one_line():
        _known("--needs", needs, {*every.split("|")})
    table = Table("name", "needs", "takes", "summary", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for name in agents.list_agents(needs):
        module, cls, kinds = entries[name]
        text = escape(first_line(module, cls))
        table.add_row(name, ", ".join(kinds).replace("|", " or "), ", ".join(agents.takes(name)), text)
    new_console().print(table)


@main.command()
def info(env_id: EnvironmentId, settings: Settings = None) -> None:
    """Say what an environment is, asks and answers, and its keywords."""
    with one_line():
        from optenvs.bench.describe import describe

        found = describe(env_id, **keywords_of(settings))
    console, spec = new_console(), found.declared
    console.print(f"[bold]{spec.id}[/bold]  {escape(spec.summary)}\n")
    console.print(escape(found.text) + "\n")
    facts = Table("", "", box=None, show_header=False, pad_edge=False)
    rows = [("family", spec.family), ("reference", spec.reference), ("needs", ", ".join(spec.needs))]
    rows += list(found.facts)
    if spec.best_known is not None:
        rows.append(("best known", f"{spec.best_known:g}"))
    for name, text in rows:
        if text:
            facts.add_row(name, escape(text))
    console.print(facts)
    if found.problem:
        console.print(f"\nnot usable here: {escape(found.problem)}")
    if found.fields:
        table = Table("field", "space", "meaning", box=None, pad_edge=False)
        for texts in found.fields:
            table.add_row(*map(escape, texts))
        console.print()
        console.print(table)
    table = Table("keyword", "default", "meaning", box=None, pad_edge=False)
    for keyword in found.keywords:
        table.add_row(keyword.name, escape(keyword.default), escape(keyword.text))
    console.print()
    console.print(table)


@main.command()
def check(env_id: EnvironmentId, settings: Settings = None) -> None:
    """Hold an environment to the contract; exit code 1 if it breaks it."""
    with one_line():
        from optenvs.core.checker import CheckFailed

        env = optenvs.make(env_id, **keywords_of(settings))
    try:
        typer.echo(str(optenvs.check(env)))
    except CheckFailed as failure:
        typer.echo(str(failure.report))
        raise typer.Exit(1) from failure


@main.command()
def bench(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or a packaged name.")],
    out: Annotated[Path | None, typer.Option(help="Folder; results/NAME by default.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Workers, in place of the file's.")] = None,
) -> None:
    """Run what is missing of an experiment, then report it. Interrupt and repeat it at will.

    "optenvs bench quickstart" runs the packaged example. What a file says: python -m pydoc
    optenvs.bench.experiment
    """
    from optenvs.bench.interrupt import ends_at_once

    with ends_at_once("interrupted; the same command goes on from here", _kill_workers):
        with one_line():
            try:
                from optenvs.bench import report as reporting
                from optenvs.bench import runner
            except ModuleNotFoundError as error:
                raise ImportError(f"{error}; install the extra: pip install 'optenvs[bench]'") from error
            from optenvs.bench.folder import usable
            from optenvs.bench.plan import build

            experiment = _experiment(config, jobs)
            folder = out or Path("results") / experiment.name
            plan = build(experiment)
            usable(folder)
        with one_line((OSError,)):
            outcome = runner.run(plan, folder, progress=True, source=config)
        with one_line():
            paths = reporting.report(folder, manifest=outcome.manifest)
        _print_table(paths[1])
    typer.echo(f"{outcome.computed} runs computed, {outcome.reused} found, in {outcome.seconds:.0f} s")
    if shutil.which("optenvs") is None:  # as after the quickstart, whose environment nobody has activated
        typer.echo(f"more: {sys.executable} -m optenvs --help")
    typer.echo(f"report: {paths[0]}")
    for error in outcome.errors:
        typer.echo(f"failed: {error}", err=True)
    if outcome.errors:
        raise typer.Exit(1)


def _kill_workers() -> None:
    """There are none where the module is not loaded."""
    getattr(sys.modules.get("optenvs.bench.pool"), "kill_workers", lambda: None)()


@main.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a benchmark's results.")],
    axis: Annotated[
        list[str] | None,
        typer.Option(help="Ledger column of a further figure: samples, work:KIND, ..."),
    ] = None,
) -> None:
    """Write the tables, the figures and the page of a folder of results."""
    from optenvs.bench.interrupt import ends_at_once

    with ends_at_once("interrupted; an earlier report is as it was"), one_line():
        if not directory.is_dir():
            raise FileNotFoundError(f"no folder {directory}")
        from optenvs.bench import report as reporting

        paths = reporting.report(directory, axes=axis or ())
    _print_table(paths[1])
    typer.echo(f"report: {paths[0]}")


@main.command()
def rank(
    env_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="optenvs/RankingLatent-v0 by default.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="zo_ranksgd by default.")] = None,
    session: Annotated[
        Path | None, typer.Option(help="Folder to keep it in; sessions/ID-AGENT-SEED by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Names the instance; 0 by default.")] = None,
    settings: Settings = None,
    hyperparameters: Annotated[
        list[str] | None, typer.Option("--param", metavar="KEY=VALUE", help="A hyper-parameter of the agent.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds to be answered; 40 by default.")] = None,
    question: Annotated[str | None, typer.Option(help="What the person is asked.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Rank pictures on a local page. Interrupt and repeat it at will."""
    given = {
        "environment": env_id, "agent": agent, "seed": seed, "question": question, "rounds": rounds,
        "keywords": _given(settings, "--set"), "hyperparameters": _given(hyperparameters, "--param"),
    }  # fmt: skip
    with one_line():
        from optenvs.human.command import prepare
        from optenvs.human.page import serve

        opened, folder = prepare({name: value for name, value in given.items() if value is not None}, session)
        typer.echo(f"session: {folder}, {len(opened.record.said)} rounds answered")

        def ready(address: str) -> None:
            typer.echo(f"page: {address}  (for this machine only; Ctrl+C ends it)")
            if browser:
                typer.launch(address)

        raise_again()  # the page ends in its own way
        with suppress(KeyboardInterrupt):  # there is none where a shell's job ignores interrupts
            serve(opened, port, ready)
        typer.echo("ended; the same command goes on from here")


main.command()(score)
main.command()(splits)


def _given(settings: list[str] | None, option: str) -> dict[str, Any] | None:
    with one_line():
        return keywords_of(settings, option) if settings else None


def _experiment(config: str, jobs: int | None) -> Experiment:
    """The experiment of a file or of a packaged name."""
    from optenvs.bench.experiment import Engine, builtin, load

    is_file = config.endswith(".toml") or Path(config).is_file()
    if is_file and not Path(config).is_file():
        raise FileNotFoundError(f"no file {config}")
    experiment = load(config) if is_file else builtin(config)
    if jobs is None:
        return experiment
    backend = experiment.engine.backend
    if jobs > 1 and backend == "sequential":
        backend = "loky"
    return dataclasses.replace(experiment, engine=Engine(backend, jobs))


def _print_table(path: Path) -> None:
    """The report's table on the terminal."""
    from optenvs.bench.report import read_table, table_rows

    table = Table("environment", "agent", "median", "IQM", "95 % CI", "failed", "hyperparameters")
    for column in (2, 3, 4, 5):
        table.columns[column].justify = "right"
    for row in table_rows(read_table(path)):
        if row["first"] and table.rows:
            table.add_section()
        row = {name: _shown(value) for name, value in row.items()}
        median = f"[bold]{row['median']}[/bold]" if row["best"] else row["median"]
        where = f"{row['environment']}\n{row['metric']}, {row['budget']} {row['cost']} calls"
        table.add_row(
            escape(where) if row["first"] else "",
            escape(row["agent"]),
            median,
            row["iqm"],
            escape(row["interval"]),
            f"{row['failures']}/{row['runs']}",
            escape(row["hyperparameters"]),
        )
    new_console().print(table)


if __name__ == "__main__":
    main()
