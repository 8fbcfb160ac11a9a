"""A folder of results: whether it can be written, and that one process at a time computes there."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from optenvs.core.files import sweep

_LOCK = ".optenvs.lock"
# a file system without locks, as some of networks: there, users must take care themselves
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class FolderInUse(OSError):
    """Another process is writing to a folder of results."""


def usable(folder: Path) -> None:
    """Make a folder of results if it is not there.

    Raises:
        OSError: it cannot be written; a sentence says why.
    """
    standing = folder
    while not (standing.exists() or standing.is_symlink()) and standing != standing.parent:
        standing = standing.parent
    if not standing.is_dir():
        where = "" if standing == folder else f", on the way to {str(folder)!r}"
        raise NotADirectoryError(f"--out: {str(standing)!r} is a file{where}; expected a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"--out: nothing can be written to the folder {str(folder)!r} ({reason})") from error


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder: one process at a time computes there. What killed ones have left half written goes.

    Raises:
        FolderInUse: another process, which the message names, holds it.
    """
    with _opened(folder / _LOCK) as file:
        if not _locked(file):
            file.seek(0)
            raise FolderInUse(
                f"the folder {str(folder)!r} is in use by another benchmark (process "
                f"{file.read().strip() or 'unknown'}); wait for it, or choose another folder with --out"
            )
        if file.writable():
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        sweep(folder)
        yield  # closing the file frees it, and so does the end of this process


def _opened(path: Path) -> IO[str]:
    """The lock's file, which is never removed: somebody may be waiting for this very one."""
    try:
        return open(path, "a+", encoding="utf-8")
    except PermissionError:  # it is somebody else's, in a folder that is shared
        return open(path, encoding="utf-8")


def _locked(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return _locked_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    return True


def _locked_on_windows(file: IO[str]) -> bool:
    import msvcrt

    file.seek(1 << 20)  # beyond the text, which others must be able to read
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    except OSError:
        return False
    return True
