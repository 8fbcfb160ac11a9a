"""Results of pure functions, kept by their arguments, where ``torch.compile`` can look too."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def remembered(maxsize: int) -> Callable[[F], F]:
    """Keep the results of a function of hashable positional arguments; the oldest go first.

    Unlike ``functools.lru_cache``, into which tracing does not look: it would trace the function itself,
    which may hash, read a file or use numpy. What is compiled takes what was found before.
    """

    def decorate(function: F) -> F:
        known: dict[tuple[Any, ...], Any] = {}

        @wraps(function)
        def look(*arguments: Any) -> Any:
            if arguments in known:
                return known[arguments]
            found = function(*arguments)
            for old in list(known)[
                : max(len(known) - maxsize + 1, 0)
            ]:  # one operation, also where threads share it
                known.pop(old, None)
            known[arguments] = found
            return found

        return look  # type: ignore[return-value]

    return decorate
