"""The commands ``optenvs score`` and ``optenvs splits``: an optimizer against tuned Adam."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from optenvs.bench.terminal import keywords_of, new_console, one_line


def score(
    agent: Annotated[
        str, typer.Argument(metavar="AGENT", help='A name of "optenvs agents", or module:Class.')
    ],
    split: Annotated[str, typer.Argument(metavar="SPLIT", help='One of "optenvs splits".')],
    hyperparameters: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="KEY=VALUE", help="A hyper-parameter of the agent, as in TOML."),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS", help="Of a learned optimizer: a shipped name, or a .safetensors file."
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="ID", help="Of the splits seeds and horizons: the tasks trained on.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A keyword of these tasks.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer than the split has.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the score: score.safetensors, score.txt, score.png.")
    ] = None,
) -> None:
    """Score an optimizer on a published split: its speed-up over tuned Adam.

    Begin with: optenvs score sgd quadratics --param lr=0.05
    """
    from optenvs.bench.interrupt import ends_at_once

    with ends_at_once("interrupted; nothing was written"), one_line():
        import optenvs

        if settings and tasks is None:
            raise ValueError("--set: it is about --tasks, which are not given")
        entry = tasks and {"env": tasks, **keywords_of(settings)}
        player = optenvs.agents.make(agent, pretrained=pretrained, **keywords_of(hyperparameters, "--param"))
        found = optenvs.score(player, split, tasks=entry, steps=steps, name=agent)
        typer.echo(found.table())
        if out is not None:
            _write(found, out)
            typer.echo(f"score: {out}")


def splits() -> None:
    """List the splits that optimizers are scored on."""
    with one_line():
        from optenvs.scoring.splits import SEEDS, list_splits, published
        from optenvs.scoring.tables import shipped

        table = Table("split", "steps", "instances", "Adam's table", "tasks", box=None, pad_edge=False)
        for name in list_splits():
            one = published(name)
            there = "shipped" if shipped(name).is_file() else "computed first"
            table.add_row(name, str(one.steps), f"{SEEDS} of each", there, escape("\n".join(one.labels)))
        new_console().print(table)


def _write(found: Any, folder: Path) -> None:
    """The score, its table and its plot into a folder."""
    from optenvs.core.files import replace_file

    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / "score.safetensors")
    replace_file(folder / "score.txt", f"{found.table()}\n".encode())
    found.plot(folder / "score.png")
