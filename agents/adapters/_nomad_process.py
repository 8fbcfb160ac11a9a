"""One run of NOMAD, in a process of its own: it asks on one stream and is told on the other, as JSON lines.

NOMAD calls back, and keeps its state in variables of the process: two runs in threads of one process crash.
Run as a script, it needs nothing but PyNomad.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Read the settings, run, and answer with the best point or the error."""
    # NOMAD prints to the standard output, which is the stream of questions here
    questions = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        try:
            print(json.dumps(message), file=questions, flush=True)
        except BrokenPipeError:
            os._exit(0)  # whoever asked is gone

    def hear() -> Any:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        return json.loads(line)

    settings = hear()
    try:
        import PyNomad
    except ImportError as error:
        say(error=f"NOMAD needs PyNomadBBO, which cannot be imported here ({error}): pip install PyNomadBBO")
        return

    def blackbox(point: Any) -> int:
        say(ask=[point.get_coord(i) for i in range(point.size())])
        outputs = hear()
        if outputs is None:
            return 0  # a failed evaluation
        point.setBBO(" ".join(map(repr, outputs)).encode())
        return 1

    try:
        result = PyNomad.optimize(
            blackbox, settings["start"], settings["lower"], settings["upper"], settings["parameters"]
        )
    except Exception as error:  # noqa: BLE001 - told to the other side, which raises it
        say(error=f"{type(error).__name__}: {error}")
        return
    say(done=True, evaluations=int(result["nb_evals"]))


if __name__ == "__main__":
    main()
