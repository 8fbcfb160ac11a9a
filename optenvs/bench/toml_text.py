"""An experiment back as a TOML file, so that a report alone is enough to repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TABLES = ("environments", "agents", "engine")


def to_toml(config: Mapping[str, Any]) -> str:
    """Returns the file of an experiment.

    Args:
        config: ``Experiment.to_dict()``, or that after a way through JSON.

    Returns:
        TOML from which ``experiment.parse`` makes an equal experiment.
    """
    first = config["environments"][0]
    # every environment names its own budget and tolerances; at the top they are only the defaults
    top = {key: value for key, value in config.items() if key not in _TABLES}
    top |= {"budget": first["budget"], "tolerances": first["tolerances"]}
    lines = _pairs(top)
    for key in ("environments", "agents"):
        for entry in config[key]:
            lines += ["", f"[[{key}]]", *_pairs(entry)]
    if engine := config.get("engine"):
        lines += ["", "[engine]", *_pairs(engine)]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    """Lines ``key = value``; what is absent or empty is left to the defaults."""
    # JSON has sorted the keys; a reader looks for the name first
    keys = sorted(table, key=lambda key: key not in ("name", "id"))
    return [f"{_key(k)} = {_value(table[k])}" for k in keys if table[k] not in (None, {}, [], ())]


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _value(key)


def _value(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML's escapes are JSON's, but for surrogates
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return "[" + ", ".join(map(_value, value)) + "]"
