"""Work begun ahead: its result, its failure, and that nobody is left behind."""

from __future__ import annotations

import threading

import pytest

from graphopt.pipeline.ahead import Ahead


def test_the_result_is_there_when_it_is_asked_for() -> None:
    begun = threading.Event()

    def work() -> int:
        begun.set()
        return 7

    ahead = Ahead(work)
    assert begun.wait(10)
    assert ahead.result() == 7


def test_what_fails_is_raised_where_the_result_is_asked_for() -> None:
    def work() -> int:
        raise ValueError("no such model")

    ahead = Ahead(work)
    ahead.finish()
    with pytest.raises(ValueError, match="no such model"):
        ahead.result()
