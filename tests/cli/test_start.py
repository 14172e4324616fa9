"""What `graphopt` does before it does anything: start quickly, list, complete, refuse."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.shell_completion import ShellComplete

from graphopt.cli.main import COMMANDS, cli
from graphopt.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

HEAVY = ("onnx", "onnxruntime", "networkx", "rich", "numpy", "pluggy", "tomlkit", "cattrs", "PIL")


def _python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["explain", "G302"], ["comp", "-h"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    args = ["compile", "--help"] if args[0] == "comp" else args
    code = (
        "import sys; from graphopt.cli.main import main; "
        f"assert main({args!r}) == 0; "
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; print('heavy:', heavy)"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_importing_the_front_door_imports_no_command() -> None:
    done = _python(
        "import sys, graphopt.cli.main; print([m for m in sys.modules if 'cli.compile' in m])"
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_of_each_command_begins_with_its_line_in_the_list(name: str) -> None:
    module, line = COMMANDS[name]
    command = importlib.import_module(module).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(limit=100) == line


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str, run: Callable) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: graphopt {name}")
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert "--format" in done.out


def test_help_lists_every_command_and_names_the_variables(run: Callable) -> None:
    done = run("--help")
    assert done.code == 0
    for name in COMMANDS:
        assert f"  {name} " in done.out
    for variable in ("FORMAT", "QUIET", "VERBOSE", "NO_PLUGINS", "COLOR", "NO_PROGRESS", "DEBUG"):
        assert f"GRAPHOPT_{variable}" in done.out.replace("\n", "").replace(" ", "")


def test_without_a_command_the_help_is_an_error(run: Callable) -> None:
    done = run()
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


@pytest.mark.parametrize(
    ("args", "fact", "hint"),
    [
        (["comple"], "no such command `comple`", "did you mean `compile`?"),
        (["recipe", "chek"], "no such command `chek`", "did you mean `check`?"),
        (["compile", "m", "--tagret", "x"], "no such option `--tagret`", "did you mean `--target`"),
        (["targets", "--formt", "json"], "no such option `--formt`", "did you mean `--format`"),
        (["compile"], "missing argument `MODEL`", "`graphopt compile --help`"),
        (["bench", "m", "--threads", "0"], "`--threads`", "`graphopt bench --help`"),
        (["--color", "purple", "targets"], "`--color`", "`graphopt --help`"),
    ],
)
def test_misuse_is_told_with_a_suggestion(
    run: Callable, args: list[str], fact: str, hint: str
) -> None:
    done = run("--no-plugins", *args)
    assert (done.code, done.out) == (2, "")
    first, empty, last = done.err.splitlines()
    assert first.startswith("error[G108]: ")
    assert fact in first
    assert empty == ""
    assert last.startswith("hint: ")
    assert hint in last


def test_a_bad_value_in_the_environment_names_the_variable(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_FORMAT", "yaml")
    done = run("targets")
    assert done.code == 2
    assert "GRAPHOPT_FORMAT" in done.err


def _complete(words: str, index: int) -> list[str]:
    done = _python(
        "from graphopt.cli.main import main; main([])",
        _GRAPHOPT_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=str(index),
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_bash_completes_commands_options_and_values() -> None:
    assert _complete("graphopt co", 1) == ["compile", "completion"]
    assert "--target" in _complete("graphopt compile --ta", 2)
    assert _complete("graphopt compile --color a", 3) == ["auto", "always"]
    assert _complete("graphopt recipe ch", 2) == ["check"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(run: Callable, shell: str) -> None:
    done = run("completion", shell)
    assert done.code == 0
    assert "_GRAPHOPT_COMPLETE" in done.out
    assert run("completion", shell, "--format", "json").json["shell"] == shell


def test_bash_accepts_the_script(run: Callable) -> None:
    script = run("completion", "bash").out
    checked = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
    assert checked.returncode == 0


def test_python_dash_m_runs_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphopt", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no such command" in done.stderr


def test_every_command_takes_every_global_option() -> None:
    context = click.Context(cli, info_name="graphopt")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        taken = {o for p in command.get_params(context) for o in p.opts}
        assert {"--format", "--quiet", "-q", "-v", "--no-plugins", "--color", "--debug"} <= taken


@pytest.mark.parametrize(
    ("args", "incomplete", "expected"),
    [
        (["targets"], "cortex-m3", {"cortex-m33"}),
        (["compile", "m.onnx", "--target"], "mc", {"mcu"}),
        (["passes"], "fold-c", {"fold-constants"}),
        (["recipe", "show"], "def", {"default"}),
        (["recipe", "show"], "nosuch", {"nosuch"}),
        (["--no-plugins"], "insp", {"inspect"}),
    ],
)
def test_names_are_completed(args: list[str], incomplete: str, expected: set[str]) -> None:
    completion = ShellComplete(cli, {}, "graphopt", "_GRAPHOPT_COMPLETE")
    found = completion.get_completions(args, incomplete)
    assert {item.value for item in found} == expected


def test_a_fault_while_completing_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "registry", property(lambda _: 1 / 0))
    completion = ShellComplete(cli, {}, "graphopt", "_GRAPHOPT_COMPLETE")
    assert completion.get_completions(["targets"], "c") == []


def test_version(run: Callable) -> None:
    done = run("--version")
    assert done.code == 0
    assert done.out.startswith("graphopt")
