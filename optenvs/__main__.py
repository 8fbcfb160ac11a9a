"""``python -m optenvs``: the command line."""

from optenvs.bench.cli import main

main(prog_name="optenvs")
