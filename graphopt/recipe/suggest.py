"""Did-you-mean: the hint after a name that nobody knows."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str], kind: str) -> str:
    """Return a hint naming the closest known word, if one is close, and then all of them.

    Args:
        word: what the user wrote.
        known: every word that would have been right.
        kind: what the words are, in the plural: "options".
    """
    names = sorted(known)
    if not names:
        return f"there are no {kind}"
    listed = f"{kind}: {', '.join(names)}"
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean `{close[0]}`? {listed}" if close else listed
