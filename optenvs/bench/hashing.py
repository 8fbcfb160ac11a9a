"""One stable name for a piece of data: canonical JSON and its SHA-256 digest.

Python's ``hash`` is salted a process, so it cannot name a file or derive a seed. Run names
(``results``) and seeds (``seeds``) both come from here, so that they agree on what "the same"
means.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def _plain(value: Any) -> Any:
    """Turns numpy scalars and arrays into plain Python values; everything else is refused."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of a value: sorted keys, no spaces, shortest round-trip floats.

    Args:
        value: Nested dicts with string keys, lists, tuples, strings, booleans, numbers, None.

    Returns:
        ASCII text; equal values give equal text on every machine and Python version.

    Raises:
        ValueError: At NaN or infinity, which JSON lacks and which would never compare equal.
        TypeError: At any other value without a JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def digest(value: Any) -> bytes:
    """Returns the 32-byte SHA-256 digest of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).digest()
