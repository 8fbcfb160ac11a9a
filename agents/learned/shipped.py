"""Trained weights that the project ships: ``agents.make("lolv2", pretrained="small-networks")``.

Each is a safetensors file of :meth:`agents.learned.base.LearnedAgent.save` under ``weights``, made by a
seeded script under ``examples`` whose docstring says where it wins and where it loses. Nothing here loads
torch until weights are asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_FOLDER = Path(__file__).with_name("weights")
_ENDING = ".safetensors"
_OWN = ("net", "weights")


class Pretrained(NamedTuple):
    """Weights that come with the package.

    Attributes:
        agent: the name of the agent.
        name: what ``pretrained=`` takes.
        tasks: what they were trained on.
        script: what made the file.
        date: when.
        score: what came out on tasks that they had not met, the best of what is tuned by hand beside it; all
            of the table is in the script's docstring.
        sha256: of the file.
    """

    agent: str
    name: str
    tasks: str
    script: str
    date: str
    score: str
    sha256: str

    @property
    def file(self) -> Path:
        """Where it is."""
        return _FOLDER / f"{self.agent}-{self.name}{_ENDING}"


SHIPPED: tuple[Pretrained, ...] = (
    Pretrained(
        "adafac_mlp",
        "small-networks",
        "64-8-10, 64-16-10 and 64-8-8-10 on 8x8 digits, 40 to 200 steps",
        "examples/meta_train_small_networks.py",
        "2026-11-30",
        "mean loss of 200 steps 0.275; NAdamW on a cosine, tuned, 0.241",
        "c9182de6579992175292189b3af241d839fb601e22dade038338d21c642bc3fb",
    ),
    Pretrained(
        "lolv2",
        "small-networks",
        "64-8-10, 64-16-10 and 64-8-8-10 on 8x8 digits, 40 to 200 steps",
        "examples/meta_train_small_networks.py",
        "2026-11-30",
        "mean loss of 200 steps 0.293; NAdamW on a cosine, tuned, 0.241",
        "1cee1f0a56761105b10a3675172336c5ab490d2e6e53deeb079a955af7147650",
    ),
    Pretrained(
        "lstm_optimizer",
        "quadratics",
        "|W x - y|^2 in ten dimensions, W and y standard normal, 100 steps",
        "examples/meta_train_lstm.py",
        "2026-11-30",
        "mean loss over the steps 0.534; momentum, tuned, 0.952",
        "f16515306fbd963b9a40a5fbd8a45f805bb756f6d74795ecd3d5ccaa4bf4940c",
    ),
    Pretrained(
        "lpg",
        "tiny-grids",
        "lives of 3 to 30 updates, each on a fresh level of tiny grid worlds (Discovery-v0)",
        "examples/discover_rule.py",
        "2026-11-30",
        "mean return 0.603 on 512 held-out levels at N = 30; optimum 0.678, chance 0.21",
        "7e51564ccfadf5b8e49c85ff23b3f890355ab5a901548cee3ef10dc31753340d",
    ),
    Pretrained(
        "step_size_policy",
        "digits",
        "64-32-10 on 8x8 digits, 220 minibatches of 32",
        "examples/ppo_step_size.py",
        "2026-11-30",
        "median of the final loss 0.0410; SGD, tuned, 0.0446",
        "4c05ab929515c6ed674ad200a42d45d071bff033d42a6c10ed294d2bafd0efa5",
    ),
)


def pretrained(agent: str | None = None) -> tuple[Pretrained, ...]:
    """The trained weights that come with the package, of one agent or of all.

    Example:
        >>> for entry in agents.pretrained("lolv2"):                                # doctest: +SKIP
        ...     print(entry.name, entry.tasks, entry.score)
    """
    return tuple(entry for entry in SHIPPED if agent in (None, entry.agent))


def load_pretrained(
    name: str, cls: Any, given: str | os.PathLike[str], hyperparameters: Mapping[str, Any]
) -> Any:
    """An agent with trained weights.

    Args:
        name: of the agent.
        cls: its class.
        given: a name of :func:`pretrained`, or the path of a file of one's own that ``save`` wrote: a
            ``Path``, or a text that ends with ``.safetensors``.
        hyperparameters: what was said besides. ``dtype`` converts the weights; all else is what the weights
            were trained with, and may only be said as it is.

    Raises:
        UnknownName: no such weights. ValueError: the file is damaged, or another agent's, or a keyword
            contradicts it. FileNotFoundError: there is no such file. TypeError: no name and no path, or
            an agent that has no weights.
    """
    from optenvs.core.errors import check_keywords

    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"pretrained: expected a name or the path of a file, got {given!r}")
    if not isinstance(cls, type) or not hasattr(cls, "load"):
        raise TypeError(f"pretrained: agent {name!r} has no weights to bring, got {given!r}")
    own = isinstance(given, os.PathLike) or given.endswith(_ENDING)
    path = Path(given).expanduser() if own else _checked(_entry(name, os.fspath(given))).file
    agent = cls.load(path)
    check_keywords(name, hyperparameters, (*agent.settings(), *_OWN))
    return _with(name, agent, given, hyperparameters)


def _entry(agent: str, name: str) -> Pretrained:
    from optenvs.core.errors import UnknownName, suggest

    known = {entry.name: entry for entry in pretrained(agent)}
    if name in known:
        return known[name]
    if known:
        raise UnknownName(f"pretrained: agent {agent!r} has no weights {name!r}{suggest(name, known)}")
    others = ", ".join(f"{entry.agent} {entry.name!r}" for entry in SHIPPED)
    raise UnknownName(f"pretrained: none are shipped of agent {agent!r}, got {name!r} (known: {others})")


def _checked(entry: Pretrained) -> Pretrained:
    """The entry, whose file is the one that the project ships."""
    what = f"pretrained weights {entry.name!r} of {entry.agent}"
    if not entry.file.is_file():
        raise FileNotFoundError(f"{what}: no file {entry.file}; install again, or {entry.script} makes it")
    found = hashlib.sha256(entry.file.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise ValueError(
            f"{what}: expected SHA-256 {entry.sha256}, got {found}: {entry.file} is damaged, or was changed; "
            f"install again, or {entry.script} makes it"
        )
    return entry


def _with(name: str, agent: Any, given: Any, hyperparameters: Mapping[str, Any]) -> Any:
    """The agent in the ``dtype`` that was asked for, where all else that was said is as it is."""
    settings = agent.settings()
    for field, value in hyperparameters.items():
        if field in _OWN:
            raise ValueError(f"{name}: {field}: expected none beside pretrained={given!r}, which brings them")
        if field != "dtype" and _plain(value) != _plain(settings[field]):
            raise ValueError(
                f"{name}: {field}: expected {settings[field]!r}, with which the weights of "
                f"pretrained={given!r} were trained, or nothing; got {value!r}"
            )
    dtype = hyperparameters.get("dtype", agent.dtype)
    if dtype == agent.dtype:
        return agent
    changed = agent.replace(dtype=dtype)
    changed.net.to(changed.torch_dtype)
    return changed


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value
