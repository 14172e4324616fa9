"""Recipes survive being written and read; mistakes name line, key and what was meant."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import RecipeError
from graphopt.recipe import (
    Calibration,
    Limits,
    PassEntry,
    Preprocessing,
    Recipe,
    parse_recipe,
    read_recipe,
    write_recipe,
)

if TYPE_CHECKING:
    from pathlib import Path

names = st.from_regex(r"[a-z][a-z0-9]{0,5}(_[a-z]{1,4})?", fullmatch=True).filter(
    lambda name: name != "use"
)
texts = st.text(max_size=12)
numbers = st.floats(allow_nan=False)
scalars = st.one_of(texts, st.integers(), numbers, st.booleans())
options = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
sides = st.integers(1, 10**6)
finite = st.floats(allow_nan=False, allow_infinity=False)
factors = finite.filter(lambda number: number != 0)
preprocessings = st.builds(
    Preprocessing,
    resize=st.none() | sides | st.tuples(sides, sides),
    crop=st.none() | st.tuples(sides, sides),
    scale=factors,
    mean=st.just(()) | st.tuples(finite) | st.tuples(finite, finite, finite),
    std=st.just(()) | st.tuples(factors) | st.tuples(factors, factors, factors),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    color=st.sampled_from(["RGB", "BGR"]),
)
recipes = st.builds(
    Recipe,
    target=texts,
    requires=st.lists(texts, max_size=2).map(tuple),
    calibration=st.builds(
        Calibration,
        data=st.none() | texts,
        samples=st.integers(1),
        held_out=st.integers(0),
        observer=texts,
        observer_options=options,
        preprocessing=st.none() | preprocessings,
    ),
    limits=st.builds(Limits, min_snr_db=numbers, max_relative_error=st.floats(0, allow_nan=False)),
    passes=st.lists(st.builds(PassEntry, texts, options), max_size=4).map(tuple),
)


@given(recipes)
def test_reading_what_was_written_gives_an_equal_recipe(recipe: Recipe) -> None:
    assert parse_recipe(write_recipe(recipe)) == recipe


def test_defaults_are_spelt_out_in_kebab_case_and_origins_become_comments() -> None:
    recipe = Recipe(
        calibration=Calibration(observer="percentile", observer_options={"percentile": 99.9}),
        passes=(PassEntry("prune", {"max_channels": 8, "bits": {"Conv_0": 4}}), PassEntry("prune")),
    )
    origins = {
        "target": "default",
        "passes.prune.max-channels": "--set",
        "passes.prune#2.use": "r.toml:3",
    }
    assert write_recipe(recipe, origins) == dedent(
        """\
        version = 1
        target = "host" # default
        requires = []

        [calibration]
        samples = 128
        fitted = 1000
        held-out = 16
        observer = "percentile"

        [calibration.observer-options]
        percentile = 99.9

        [limits]
        min-snr-db = 10.0
        max-relative-error = 0.0001
        max-divergence = 0.5
        never-slower = true

        [[passes]]
        use = "prune"
        max-channels = 8 # --set
        bits = {Conv_0 = 4}

        [[passes]]
        use = "prune" # r.toml:3
        """
    )


def test_preprocessing_is_read_with_every_field() -> None:
    recipe = parse_recipe(
        """
        [calibration.preprocessing]
        resize = 256
        crop = [224, 224]
        mean = [0.4, 0.5, 1]
        std = [0.2]
        scale = 1
        layout = "NHWC"
        color = "BGR"
        """
    )
    assert recipe.calibration.preprocessing == Preprocessing(
        256, (224, 224), 1.0, (0.4, 0.5, 1.0), (0.2,), "NHWC", "BGR"
    )
    pair = parse_recipe("calibration.preprocessing.resize = [8, 9]").calibration.preprocessing
    assert pair == Preprocessing(resize=(8, 9))


def error_of(text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(dedent(text), "recipe.toml")
    return caught.value


def test_an_unknown_key_is_shown_as_the_style_guide_prints_it() -> None:
    assert str(error_of("version = 1\n[calibration]\n  sampels = 64\n")) == dedent(
        """\
        error[G102]: unknown key `calibration.sampels`
          --> recipe.toml:3
            3 |   sampels = 64
              |   ^^^^^^^
        hint: did you mean `samples`? keys: data, extra, fitted, held-out, observer, \
observer-options, preprocessing, samples, set-aside"""
    )


@pytest.mark.parametrize(
    ("text", "code", "line", "message"),
    [
        ("tarjet = 1", "G102", 1, "unknown key `tarjet`"),
        ("\nlimits.min_snr_db = 1.0", "G102", 2, "unknown key `limits.min_snr_db`"),
        ("x.y = 1", "G102", 1, "unknown key `x`"),
        ("target = 3", "G103", 1, "`target` must be a string, got `3`"),
        ("calibration = 3", "G103", 1, "`calibration` must be a table, got `3`"),
        (
            "[calibration]\nsamples = '64'",
            "G103",
            2,
            '`calibration.samples` must be a whole number, got `"64"`',
        ),
        (
            "[calibration]\nsamples = true",
            "G103",
            2,
            "`calibration.samples` must be a whole number, got `true`",
        ),
        (
            "calibration.samples = 0",
            "G103",
            1,
            "`calibration.samples` must be at least 1, got `0`",
        ),
        (
            "calibration.preprocessing.std = [0.1, 0.0, 0.1]",
            "G103",
            1,
            "`calibration.preprocessing` cannot be used: `std` of the preprocessing is ",
        ),
        (
            "calibration.preprocessing.layout = 'HW'",
            "G103",
            1,
            '`calibration.preprocessing.layout` must be one of "NCHW", "NHWC", got `"HW"`',
        ),
        (
            "calibration.preprocessing.resize = 'big'",
            "G103",
            1,
            "`calibration.preprocessing.resize` must be a list of 2 whole numbers "
            'or a whole number, got `"big"`',
        ),
        (
            "calibration.preprocessing.crop = [1, 2, 3]",
            "G103",
            1,
            "`calibration.preprocessing.crop` must be a list of 2 whole numbers, got `[1, 2, 3]`",
        ),
        (
            "\n[calibration.preprocessing]\nresize = 9\ncrop = [0, 9]",
            "G103",
            2,
            "`calibration.preprocessing` cannot be used: `crop` of the preprocessing is ",
        ),
        ("limits.min-snr-db = nan", "G103", 1, "`limits.min-snr-db` must be a number, got `nan`"),
        ("version = 2\nnew-things = 1", "G103", 1, "recipe version `2` is not known"),
        ("version = '1'", "G103", 1, '`version` must be 1, got `"1"`'),
        ("target = 2024-01-01", "G103", 1, "`target` must be a string, got `2024-01-01`"),
        (
            "requires = [\n'a',\n3]",
            "G103",
            3,
            "`requires[1]` must be a string, got `3`",
        ),
        ("requires = 'a'", "G103", 1, '`requires` must be a list of strings, got `"a"`'),
        ("passes = ['a']", "G103", 1, '`passes[0]` must be a table, got `"a"`'),
        ("[passes.prune]\nx = 1", "G103", 1, "`passes` must be a list of tables, got a table"),
        (
            "[[passes]]\nuse = 'a'\n[[passes]]\nx = 1",
            "G103",
            3,
            "`passes[1]` needs `use`, the name of a pass",
        ),
        ("[[passes]]\nuse = 1", "G103", 2, "`passes[0].use` must be a string, got `1`"),
        (
            "[[passes]]\nuse = 'a'\nmax_n = 1",
            "G104",
            3,
            "option `max_n` of pass `a` is not spelt as in TOML",
        ),
        ("a = 1\na = 2", "G101", 2, "not valid TOML: Cannot overwrite a value"),
        ("target = \n", "G101", 1, "not valid TOML: Invalid value"),
        ("\n\nx = [1,\n", "G101", 3, "not valid TOML: Invalid value"),
        ("x = " + "9" * 5000, "G101", 1, "not valid TOML: Exceeds the limit"),
    ],
)
def test_a_mistake_has_its_code_its_line_and_one_sentence(
    text: str, code: str, line: int, message: str
) -> None:
    error = error_of(text)
    assert error.code == code
    assert (error.where or "").split("\n")[0] == f"recipe.toml:{line}"
    assert error.message.startswith(message)


def test_unknown_keys_come_before_wrong_values_and_then_the_first_line_wins() -> None:
    error = error_of("target = 3\n[limits]\nfoo = 1\n[calibration]\nbar = 2\n")
    assert error.message == "unknown key `limits.foo`"
    error = error_of("[limits]\nmin-snr-db = 'x'\n[calibration]\nsamples = 'y'\n")
    assert error.message.startswith("`limits.min-snr-db`")


def test_lists_nested_without_end_are_an_error_and_not_a_crash() -> None:
    assert error_of("x = " + "[" * 100_000).code == "G101"
    assert error_of("x = " + "[" * 100_000 + "]" * 100_000).code == "G101"


def test_hints_say_what_to_write() -> None:
    assert error_of("requires = 'a'").hint == 'write ["a"]'
    assert error_of("[[passes]]\nuse = 'a'\nmax_n = 1").hint == "write `max-n`"
    assert "newer graphopt" in (error_of("version = 2").hint or "")
    assert "[[passes]]" in (error_of("passes = ['a']").hint or "")


def test_a_long_line_is_not_printed() -> None:
    error = error_of(f"calibration = {{ data = '{'x' * 200}', sampels = 1 }}")
    assert error.where == "recipe.toml:1"


def test_a_recipe_file_starts_relative_data_at_its_own_folder(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xef\xbb\xbf[calibration]\r\ndata = 'calib/*.npz'\r\n")
    assert read_recipe(path).calibration.data == str(tmp_path / "calib/*.npz")
    path.write_text("calibration.data = '/abs/x.npz'")
    assert read_recipe(str(path)).calibration.data == "/abs/x.npz"
    path.write_text("calibration.data = 's3://bucket/x'")
    assert read_recipe(path).calibration.data == "s3://bucket/x"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    with pytest.raises(RecipeError, match="cannot read the recipe") as missing:
        read_recipe(path)
    assert (missing.value.code, missing.value.where) == ("G109", str(path))
    path.write_bytes(b"# fine\ntarget = '\xff'\n")
    with pytest.raises(RecipeError, match="not UTF-8") as binary:
        read_recipe(path)
    assert (binary.value.code, binary.value.where) == ("G101", f"{path}:2")


def test_a_pass_entry_takes_both_spellings_and_keeps_lists_as_tuples() -> None:
    entry = PassEntry("a", {"max-n": [1, [2]]})
    assert entry == PassEntry("a", {"max_n": (1, (2,))})
    with pytest.raises(RecipeError, match="cannot be an option"):
        PassEntry("a", {"use": 1})


def test_recipes_are_immutable() -> None:
    recipe = Recipe()
    with pytest.raises(AttributeError):
        recipe.target = "arm"  # type: ignore[misc]
    assert replace(recipe, target="arm").target == "arm"
