"""Which kind of progress is shown where, and that nothing of it stays on the screen."""

from __future__ import annotations

import io
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from graphopt.cli.progress import Lines, Silence, observing, outcome
from graphopt.cli.render_progress import Bars
from graphopt.cli.settings import Settings
from graphopt.report import Notice, PassRecord

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = PassRecord("fold-constants", "exact", {}, "changed", 0.1, ("3 nodes folded",))


def test_off_a_terminal_there_are_lines_and_with_quiet_there_is_silence() -> None:
    with observing(Settings()) as observe:
        assert isinstance(observe, Lines)
    for silent in (Settings(quiet=True), Settings(no_progress=True)):
        with observing(silent) as observe:
            assert type(observe) is Silence


def test_on_a_terminal_there_are_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.cli.progress.is_terminal", lambda _: True)
    with observing(Settings(color="never")) as observe:
        assert isinstance(observe, Bars)
    with observing(Settings(verbose=2)) as observe:
        assert isinstance(observe, Lines)


def test_bars_show_steps_and_rate_and_vanish() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, no_color=True)
    before = threading.active_count()
    with Bars(color=False, console=console) as bars:
        bars.pass_started("insert-qdq [red]")
        for done in range(1, 5):
            bars.progress("calibration", done, 4)
        bars.progress("search", 7, 0)
        assert threading.active_count() == before  # nothing runs beside a measurement
        drawn = screen.getvalue()
        bars.notice(Notice("W1", "x"))
        bars.pass_finished(RECORD)
    assert "insert-qdq [red]" in drawn
    assert "4/4" in drawn
    assert "/s" in drawn
    shown = screen.getvalue()[len(drawn) :]
    assert "\x1b[?25h" in shown  # the cursor is back
    assert "\x1b[2K" in shown  # and the lines were cleared


@pytest.mark.parametrize(
    ("status", "notes", "reason", "text"),
    [
        ("changed", ("a", "b"), None, "a, b"),
        ("changed", (), None, "changed"),
        ("unchanged", (), None, "no change"),
        ("unchanged", ("nothing to fold",), None, "no change, nothing to fold"),
        ("rolled back", ("a",), "because", "rolled back: because"),
    ],
)
def test_outcome(status: str, notes: tuple[str, ...], reason: str | None, text: str) -> None:
    assert outcome(PassRecord("p", "exact", {}, status, 0.0, notes, reason=reason)) == text


def test_vv_prints_the_log_and_leaves_the_logger_as_it_was(
    run: Callable, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(_: object) -> None:
        logging.getLogger("graphopt.somewhere").debug("a remark")
        raise KeyboardInterrupt

    api.inspect = inspect
    logger = logging.getLogger("graphopt")
    before = (logger.level, list(logger.handlers))
    done = run("inspect", "m.onnx", "-vv")
    assert done.code == 130
    assert "graphopt.somewhere: a remark" in done.err
    assert (logger.level, list(logger.handlers)) == before
    assert "a remark" not in run("inspect", "m.onnx", "-v").err
