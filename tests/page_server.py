"""The page of a session, served for the time of a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from optenvs.human.page import PageServer
from optenvs.human.session import Session

PATIENCE = 60.0


@contextmanager
def served(session: Session) -> Iterator[str]:
    """The address of the page; at the end the server must stop."""
    with PageServer(session) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server.address
        finally:
            server.stop()
            thread.join(PATIENCE)
            assert not thread.is_alive()
