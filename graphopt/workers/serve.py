"""What a local worker process does: one task after another, until the other end is closed."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import traceback
from multiprocessing import connection, parent_process
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

READY = b"ready"
"""The first message of a worker."""


def serve(wire: Connection) -> None:
    """Receive pickled (function, arguments), send pickled (ok, result or error)."""
    # Ctrl-C reaches the whole group of processes; the coordinator is the one who answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="watch", daemon=True).start()
    wire.send_bytes(READY)
    while True:
        try:
            message = wire.recv_bytes()
        except (EOFError, OSError):
            return
        reply = _reply(message)
        try:
            wire.send_bytes(reply)
        except OSError:
            return


def _reply(message: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(message)  # noqa: S301 - from our own coordinator
        return _dump((True, function(*arguments)))
    except Exception as error:
        return _dump_error(error)


def _dump_error(error: Exception) -> bytes:
    told = "".join(traceback.format_exception(error))
    try:
        note = f"in a worker:\n{told}"
        error.add_note(note)
        reply = _dump((False, error))
        pickle.loads(reply)  # noqa: S301 - an error may be written and yet not be read again
    except Exception:
        return _dump((False, RuntimeError(f"a worker failed:\n{told}")))
    return reply


def _dump(thing: Any) -> bytes:
    return pickle.dumps(thing, protocol=pickle.HIGHEST_PROTOCOL)


def _end_with_parent() -> None:
    """Leave when the coordinator is gone, even if it was killed while a task runs here."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
