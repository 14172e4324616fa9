"""Where random choices come from: hypothesis, which shrinks them, or a generator, which is fast."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tests.fuzzing.opsets import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis import strategies as st


class Choices(Protocol):
    """Makes the choices that a random graph consists of."""

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        ...

    def number(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included.

        Raises:
            UnavailableError: there is none.
        """
        ...

    def flag(self) -> bool:
        """Return whether or not."""
        ...


@dataclass(frozen=True)
class Drawn:
    """Choices of hypothesis."""

    draw: st.DrawFn

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of the options; the first is the simplest."""
        from hypothesis import strategies as st

        return self.draw(st.sampled_from(list(options)))

    def number(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        from hypothesis import strategies as st

        if low > high:
            raise UnavailableError("a number")
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        """Return whether or not."""
        from hypothesis import strategies as st

        return self.draw(st.booleans())


class Seeded:
    """Choices of a generator: the same seed makes the same graph on every machine."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        return self._random.choice(list(options))

    def number(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        if low > high:
            raise UnavailableError("a number")
        return self._random.randint(low, high)

    def flag(self) -> bool:
        """Return whether or not."""
        return self._random.random() < 0.5
