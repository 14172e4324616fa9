"""Every key of a TOML text is found on the line, and in the column, where it stands."""

from __future__ import annotations

import tomllib
from textwrap import dedent

import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from graphopt.recipe.positions import find_positions

NASTY = dedent(
    '''\
    version = 1  # not = a key
    "quoted key" = "[not.a.header]"
    'literal' = 'x = "1"'
    a.b . "c.d" = 1.5
    text = """
    fake = 1
    [[fake]]
    quotes: ""\\""" """
    raw = \'\'\'
    also_fake = 2
    it\'s\'\'\'\'\'
    list = [ # comment ]
      "one", { k = 1, "l" = [2] },
      [
        3,
      ],
    ]
    inline = { x = { y = 2 }, z = "}" }
    date = 1979-05-27T07:32:00.5Z
    multi = """a"""""

    [ table . sub ]  # header
    key = -1.5e-3

    [[passes]]
    use = "a"
    [passes.options]
    x = 1
    [[passes.inner]]
    [[passes.inner]]
    deep = true

    [[passes]]
    use = "b"
    after = ""
    '''
)


def test_nasty_document_is_valid_and_every_key_is_found() -> None:
    document = tomllib.loads(NASTY)
    spans = find_positions(NASTY)
    expected = {
        ("version",): (1, "version"),
        ("quoted key",): (2, '"quoted key"'),
        ("literal",): (3, "'literal'"),
        ("a",): (4, "a"),
        ("a", "b", "c.d"): (4, 'a.b . "c.d"'),
        ("text",): (5, "text"),
        ("raw",): (9, "raw"),
        ("list",): (12, "list"),
        ("list", 0): (13, '"one"'),
        ("list", 1): (13, "{"),
        ("list", 1, "k"): (13, "k"),
        ("list", 1, "l"): (13, '"l"'),
        ("list", 2): (14, "["),
        ("list", 2, 0): (15, "3"),
        ("inline",): (18, "inline"),
        ("inline", "x", "y"): (18, "y"),
        ("inline", "z"): (18, "z"),
        ("date",): (19, "date"),
        ("multi",): (20, "multi"),
        ("table",): (22, "table"),
        ("table", "sub"): (22, "table . sub"),
        ("table", "sub", "key"): (23, "key"),
        ("passes", 0): (25, "passes"),
        ("passes", 0, "use"): (26, "use"),
        ("passes", 0, "options"): (27, "passes.options"),
        ("passes", 0, "options", "x"): (28, "x"),
        ("passes", 0, "inner", 0): (29, "passes.inner"),
        ("passes", 0, "inner", 1): (30, "passes.inner"),
        ("passes", 0, "inner", 1, "deep"): (31, "deep"),
        ("passes", 1): (33, "passes"),
        ("passes", 1, "use"): (34, "use"),
        ("passes", 1, "after"): (35, "after"),
    }
    lines = NASTY.split("\n")
    found = {
        path: (
            spans[path].line,
            lines[spans[path].line - 1][spans[path].column :][: spans[path].width],
        )
        for path in expected
    }
    assert found == expected
    assert set(paths_of(document)) <= set(spans)
    assert {path[0] for path in spans} == set(document)


def test_windows_line_ends_do_not_move_anything() -> None:
    assert find_positions(NASTY.replace("\n", "\r\n")) == find_positions(NASTY)


keys = st.text(st.sampled_from("ab.-_ #[]{}=\"'\\é\n"), min_size=1, max_size=5)
scalars = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(st.sampled_from("x#\"'\\\n[]{}=, é"), max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)
documents = st.dictionaries(keys, values, max_size=4)


@given(documents)
def test_every_value_of_any_document_has_a_position_that_shows_its_key(document: dict) -> None:
    text = tomlkit.dumps(document)
    read = tomllib.loads(text)
    spans, lines = find_positions(text), text.split("\n")
    for path in paths_of(read):
        span = spans[path]
        assert 1 <= span.line <= len(lines)
        shown = lines[span.line - 1][span.column : span.column + span.width]
        assert len(shown) == span.width
        if isinstance(path[-1], str):
            assert last_key(shown) == path[-1]


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        steps = value.items()
    else:
        steps = enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        found += paths_of(inner, (*path, step))
    return found


def last_key(dotted: str) -> str:
    table = tomllib.loads(f"{dotted} = 0")
    while isinstance(table, dict):
        ((key, table),) = table.items()
    return key
