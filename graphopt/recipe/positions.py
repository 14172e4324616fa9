"""Find where each key of a TOML text stands; ``tomllib`` reads the values but forgets the places.

The text must already have been accepted by ``tomllib``, so that nothing here has to check it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str | int, ...]
"""Keys and, inside lists, indices, from the root of a document to a value."""

_TOKEN = re.compile(
    r"""(?P<skip>[\ \t\r]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<text>\"{3}(?:[^"\\]|\\.|\"{1,2}(?!\"))*\"{3,5} | '{3}(?:[^']|'{1,2}(?!'))*'{3,5}
               | "(?:[^"\\\n]|\\.)*" | '[^'\n]*')
      | (?P<mark>[\[\]{},=.])
      | (?P<bare>[^\s\#"'\[\]{},=.]+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Span:
    """A stretch of one line: ``line`` counts from 1, ``column`` from 0, ``width`` in characters."""

    line: int
    column: int
    width: int


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int
    column: int


def find_positions(text: str) -> Mapping[Path, Span]:
    """Return the span of every key, table header and list item of a valid TOML text."""
    return _Scanner(text).document()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.next = 0
        self.spans: dict[Path, Span] = {}
        self.lists: dict[Path, int] = {}  # arrays of tables: index of the one that is open

    def document(self) -> Mapping[Path, Span]:
        table: Path = ()
        while self._peek() != "end":
            if self._peek() == "newline":
                self.next += 1
            elif self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.spans

    def _header(self) -> Path:
        brackets = 2 if self.tokens[self.next + 1].text == "[" else 1
        self.next += brackets
        keys, spans = self._key()
        self.next += brackets
        for length, span in enumerate(spans, 1):
            path = (*self._open_path(keys[: length - 1]), keys[length - 1])
            self.spans.setdefault(path, span)
        if brackets == 2:
            self.lists[path] = self.lists.get(path, -1) + 1
        path = self._open_path(keys)
        self.spans[path] = spans[-1]
        return path

    def _open_path(self, keys: list[str]) -> Path:
        """Return the path of a header, entering the last table of every array on the way."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self.lists:
                path = (*path, self.lists[path])
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for key, span in zip(*self._key(), strict=True):
            path = (*path, key)
            self.spans.setdefault(path, span)
        self.next += 1  # the equals sign
        self._value(path)

    def _key(self) -> tuple[list[str], list[Span]]:
        """Return the parts of a dotted key, and the span from the first part to each of them."""
        first = self.tokens[self.next]
        keys, spans = [], []
        while self._peek() in ("bare", "text", "."):
            token = self.tokens[self.next]
            if token.text != ".":
                keys.append(_plain_key(token))
                width = token.column + len(token.text) - first.column
                spans.append(Span(first.line, first.column, width))
            self.next += 1
        return keys, spans

    def _value(self, path: Path) -> None:
        kind = self._peek()
        if kind == "{":
            self._items(path, "}")
        elif kind == "[":
            self._items(path, "]")
        else:
            while self._peek() in ("bare", "text", "."):
                self.next += 1

    def _items(self, path: Path, end: str) -> None:
        self.next += 1
        index = 0
        while self._peek() != end:
            if self._peek() in (",", "newline"):
                self.next += 1
            elif end == "}":
                self._pair(path)
            else:
                token = self.tokens[self.next]
                width = len(token.text.partition("\n")[0])
                self.spans[(*path, index)] = Span(token.line, token.column, width)
                self._value((*path, index))
                index += 1
        self.next += 1

    def _peek(self) -> str:
        token = self.tokens[self.next]
        return token.text if token.kind == "mark" else token.kind


def _tokens(text: str) -> list[_Token]:
    tokens = []
    line, line_start = 1, 0
    for match in _TOKEN.finditer(text):
        kind, found = match.lastgroup or "", match.group()
        if kind != "skip":
            tokens.append(_Token(kind, found, line, match.start() - line_start))
        if "\n" in found:
            line += found.count("\n")
            line_start = match.start() + found.rindex("\n") + 1
    tokens.append(_Token("end", "", line, 0))
    return tokens


def _plain_key(token: _Token) -> str:
    if token.kind == "bare":
        return token.text
    return str(tomllib.loads(f"key = {token.text}")["key"])
