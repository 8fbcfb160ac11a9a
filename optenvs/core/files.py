"""Files that are written whole or not at all, and what a killed process has left of them."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import stat
import time
import uuid
import zlib
from pathlib import Path

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_LEFT = re.compile(r"^\..*-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.tmp$")
_OLD = 3600.0  # seconds after which nobody is still writing a file, wherever that was


def replace_file(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file, whole or not at all; an earlier one of the same name is replaced, and its mode kept.

    Raises:
        OSError: it names ``path`` (a full disk does not); what was there before is as it was.
    """
    path = Path(path)
    # The same folder, because a rename is atomic only within one file system.
    # Not by ``tempfile``, whose files nobody else may read: result folders are shared.
    temporary = path.with_name(f".{path.name[:100]}-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if (mode := _mode(path)) is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise type(error)(error.errno, error.strerror or str(error), str(path)) from error
        raise
    return path


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def sweep(folder: str | os.PathLike[str]) -> int:
    """Remove what processes that are no more have left half written in a folder; how many files that was."""
    count = 0
    for path in Path(folder).glob(".*.tmp"):
        found = _LEFT.match(path.name)
        if found is None:
            continue
        with contextlib.suppress(OSError):  # gone already, or not ours to remove
            own = found["host"] == _HOST
            if time.time() - path.lstat().st_mtime > _OLD or (own and not _runs(int(found["process"]))):
                path.unlink()
                count += 1
    return count


def _runs(process: int) -> bool:
    """Whether there is a process of this number on this machine; where that cannot be known, there is."""
    if os.name == "nt":  # there, signal 0 is Ctrl+C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
