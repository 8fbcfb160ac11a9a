"""Files are whole or as they were, keep their mode, and leave no litter."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optenvs.core import files
from optenvs.core.files import replace_file, sweep

ALONE = f"""
import importlib.util, os, resource, sys, time
spec = importlib.util.spec_from_file_location("files", {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
"""
"""What writes files by itself: it needs nothing of the package, whose import takes seconds."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o022)
    try:
        assert replace_file(path, b"one") == path
        assert mode(path) == 0o644
        path.chmod(0o664)
        replace_file(str(path), b"two")
    finally:
        os.umask(before)
    assert (path.read_bytes(), mode(path)) == (b"two", 0o664)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_the_name_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    code = ALONE + (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "files.replace_file(sys.argv[1], bytes(5000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert f"OSError: [Errno 27] File too large: '{path}'" in done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="nowhere/file"):
        replace_file(tmp_path / "nowhere" / "file", b"")


def test_what_a_killed_process_leaves_is_swept_and_nothing_else(tmp_path: Path) -> None:
    code = ALONE + (
        "os.fsync = lambda number: (print('half', flush=True), time.sleep(60))\n"
        "files.replace_file(sys.argv[1], b'never')"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    assert sweep(tmp_path) == 0, "it is being written"
    (left,) = tmp_path.iterdir()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    foreign = tmp_path / ".file-00000000-1-00000000.tmp"  # of another machine
    own = tmp_path / ".mine.tmp"
    for path in (foreign, own):
        path.touch()
    assert sweep(tmp_path) == 1
    assert not left.exists()
    assert set(tmp_path.iterdir()) == {foreign, own}
    os.utime(foreign, (time.time() - 1e5,) * 2)
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [own]
