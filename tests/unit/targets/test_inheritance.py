"""Target files that build on a shipped one: what is taken over, and what its figures rest on."""

from __future__ import annotations

import pytest

from graphopt.errors import TargetError
from graphopt.targets import builtin_targets, read_target

BASE = {target.name: target for target in builtin_targets()}["arm64-dotprod"]


@pytest.fixture
def mine(tmp_path):
    """Return a function: the target of a file with this text."""

    def run(text: str):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return read_target(path)

    return run


HEAD = 'base = "arm64-dotprod"\nname = "mine"\nsummary = "my board"\n'


def test_what_is_not_said_is_the_bases(mine):
    found = mine(HEAD)
    assert (found.name, found.summary, found.aliases) == ("mine", "my board", ())
    assert found.compute == BASE.compute
    assert found.quantization == BASE.quantization
    assert found.session_config == BASE.session_config
    assert found.sources.keys() == BASE.sources.keys()
    assert all(text.startswith("arm64-dotprod: ") for text in found.sources.values())


def test_tables_are_merged_key_by_key(mine):
    found = mine(HEAD + '[compute.efficiency]\n"int8.conv" = 0.5\n')
    assert found.compute.efficiency["int8.conv"] == 0.5
    assert found.compute.efficiency["int8.gemm"] == BASE.compute.efficiency["int8.gemm"]


def test_a_changed_figure_does_not_keep_the_bases_source(mine):
    found = mine(HEAD + "[compute]\nfrequency_ghz = 1.5\ncores = 2\n")
    assert found.sources["compute.frequency_ghz"] == "mine.toml, which names no source"
    stated = mine(
        HEAD + '[compute]\nfrequency_ghz = 1.5\n[sources]\n"compute.frequency_ghz" = "its sheet"\n'
    )
    assert stated.sources["compute.frequency_ghz"] == "its sheet"


def test_a_source_for_a_section_serves_its_figures(mine):
    text = '[memory]\ndram_gb_s = 3.0\n[sources]\n"memory" = "measured with STREAM"\n'
    found = mine(HEAD + text)
    assert found.sources["memory"] == "measured with STREAM"
    assert "memory.dram_gb_s" not in found.sources


def test_a_base_of_a_base_is_followed(mine):
    found = mine('base = "nvidia-h200"\nname = "mine"\nsummary = "my card"\n')
    assert found.memory.dram_gb_s == 3600.0
    assert found.sources["compute.efficiency"].startswith("nvidia-h100: ")


@pytest.mark.parametrize(("base", "hint"), [("arm64-dotprd", "arm64-dotprod"), ("zzz", "lists")])
def test_an_unknown_base_is_an_error_that_names_the_nearest(mine, base, hint):
    with pytest.raises(TargetError) as caught:
        mine(HEAD.replace("arm64-dotprod", base))
    assert caught.value.code == "G502"
    assert str(caught.value.where).endswith("mine.toml: base")
    assert hint in str(caught.value.hint)


def test_a_base_that_is_no_text_is_an_error(mine):
    with pytest.raises(TargetError, match="no shipped target"):
        mine('base = 3\nname = "mine"\nsummary = "s"\n')


def test_reading_stays_strict(mine):
    with pytest.raises(TargetError, match="no key `compute"):
        mine(HEAD + "[compute]\ncoers = 3\n")
    with pytest.raises(TargetError, match="must be a table"):
        mine(HEAD + "compute = 3\n")
    with pytest.raises(TargetError, match="sources"):
        mine(HEAD + "sources = 3\n")
