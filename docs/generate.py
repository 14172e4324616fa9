"""Write the reference pages from the code: ``python docs/generate.py [--check]``.

What is generated is checked in, and a test compares: a page that lags behind the code fails.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import graphopt
from graphopt import hookspecs, recipe
from graphopt.cli.error_pages import PAGES
from graphopt.cli.main import COMMANDS
from graphopt.cli.settings import GLOBAL_OPTIONS
from graphopt.errors import CODES
from graphopt.passes import patterns
from graphopt.registry import Registry
from rendering import (
    documented,
    facts_of,
    inline_code,
    options_table,
    plain,
    preformatted,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code: change the code, then run it. -->"

FAMILIES = {
    "G0": ("Everything else", "GraphOptError", "2"),
    "G1": ("Recipes and options", "RecipeError", "2"),
    "G20": ("Models", "ModelError", "2"),
    "G21": ("Data and running", "DataError; ModelError for G215", "2"),
    "G3": ("Passes", "PassError", "2"),
    "G4": ("Plugins", "PluginError", "2"),
    "G5": (
        "Targets and budgets",
        "TargetError; LimitError for G503 and G507",
        "2; 1 for G503 and G507",
    ),
    "G6": ("Workers", "WorkerError", "2"),
    "W": ("Warnings", "none; `Report.notices`", "0"),
    "D": ("Findings of doctor", "none; `Diagnosis.findings`", "0"),
}
"""By the beginning of the code: title, exception, exit code."""

HOOKS = {
    "passes": "Named in a recipe by `use`. See [Write a pass](../tutorial/write-a-pass.md).",
    "targets": "Named by `--target` or `target` in a recipe; aliases count as names. A target for "
    "one's own use needs no plugin: see [Write a target](../how-to/write-a-target.md).",
    "observers": "Named by `calibration.observer` in a recipe; the fields are its options.",
    "cost_models": "Named by the `cost_model` of a target; the built-in ones name `roofline`.",
    "readers": "Asked in order of name whether they accept what `--data` names; the built-in ones "
    "are asked first.",
    "metrics": "Found by `Registry.metric`. No command of this version calls one.",
    "importance": "Named by the option `criterion` of `prune-channels`; fields are its options.",
    "coupling": "Asked by `prune-channels` about every node of that operator; a rule of graphopt's "
    "own comes first.",
    "executors": "Found by the scheme of `--executor`. Any executor will do; a "
    "`graphopt.workers.Pool` also says how many workers there are and how files reach them.",
    "commands": "Looked up when `graphopt` is given a command that is not built in.",
}
"""What becomes of the things that a hook returns, by the end of the hook's name."""


def main() -> int:
    """Write the pages, or with ``--check`` compare them; 1 when one differs."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, text in pages().items():
        path = FOLDER / name
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run `python docs/generate.py`")
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """Return the text of every generated page by file name."""
    writers: dict[str, Callable[[], Iterable[str]]] = {
        "cli.md": cli_page,
        "errors.md": errors_page,
        "hooks.md": hooks_page,
        "passes.md": passes_page,
        "python-api.md": api_page,
        "recipe.md": recipe_page,
        "targets.md": targets_page,
    }
    return {name: _finished(lines()) for name, lines in writers.items()}


def _finished(lines: Iterable[str]) -> str:
    title, *rest = lines
    text = "\n".join([title, "", NOTE, *rest])
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


# -- pages ---------------------------------------------------------------------------------


def passes_page() -> Iterable[str]:
    """Yield the page of passes: the fields of each dataclass are its options."""
    yield "# Passes"
    yield (
        "\nIn a recipe a pass is a `[[passes]]` table; on the command line "
        "`--set PASS.OPTION=VALUE` sets one option. *Exact* passes keep the function that the "
        "model computes, checked on probe inputs; *approximate* ones are measured against "
        "`limits.min-snr-db`; *reduced* ones make a smaller model, measured against "
        "`limits.max-divergence`, and what follows is compared with that. A pass that fails its "
        "check is rolled back."
    )
    for name, kind in sorted(Registry(plugins=()).passes().items()):
        text, _ = documented(kind)
        details = (inspect.getdoc(sys.modules[kind.__module__]) or "").partition("\n\n")[2]
        yield f"\n## {name}\n\n*{kind.effect.value}* · {text}\n"
        yield preformatted(details)
        yield from options_table(kind)


def targets_page() -> Iterable[str]:
    """Yield the page of targets: every field of every shipped target, with its source."""
    yield "# Targets"
    yield (
        "\n`graphopt targets NAME` prints the same. `host` is this machine: the nearest target "
        "below with this machine's clock and cores. Fields are explained in "
        "[Write a target](../how-to/write-a-target.md)."
    )
    for name, target in sorted(Registry(plugins=()).targets().items()):
        if target.is_host:
            continue
        aliases = f" (also `{'`, `'.join(target.aliases)}`)" if target.aliases else ""
        yield f"\n## {name}\n\n{target.summary}{aliases}."
        rows = [
            ("runtime", target.runtime),
            ("provider", target.provider or "none: onnxruntime does not run there"),
            ("isa", ", ".join(target.isa)),
            ("uncertainty", f"{target.uncertainty:g}"),
        ]
        for part in ("quantization", "compute", "memory", "energy"):
            rows += facts_of(part, getattr(target, part))
        yield from table(("field", "value"), [(f"`{k}`", v) for k, v in rows if v])
        yield from table(
            ("figures of", "rest on"), [(f"`{k}`", v) for k, v in sorted(target.sources.items())]
        )


def recipe_page() -> Iterable[str]:
    """Yield the page of recipes: every table and key of the file, and the presets."""
    yield "# Recipes"
    yield (
        "\nA recipe is a TOML file: everything that a compile needs besides the model, and all "
        "that is needed to repeat it. Unknown keys are errors. From weak to strong: defaults, "
        "preset, `graphopt.toml` beside the model (or `[tool.graphopt]` in `pyproject.toml` "
        "there), `--recipe`, options of their own such as `--target`, `--set`. "
        "`graphopt compile --dry-run` prints the result with the origin of each value."
    )
    tables = {
        "Top level": recipe.Recipe,
        "[calibration]": recipe.Calibration,
        "[calibration.preprocessing]": recipe.Preprocessing,
        "[limits]": recipe.Limits,
    }
    for title, kind in tables.items():
        yield f"\n## {title}\n\n{documented(kind)[0]}"
        yield from options_table(kind, "key")
    yield "\n## [[passes]]\n\nOne table per step, in the order in which they run: `use` names the"
    yield "pass, every other key is one of [its options](passes.md)."
    yield "\n## Observers\n\nValues of `calibration.observer`; their options go to"
    yield "`[calibration.observer-options]`."
    for name, kind in sorted(Registry(plugins=()).observers().items()):
        yield f"\n### {name}\n\n{documented(kind)[0]}"
        yield from options_table(kind)
    yield "\n## Presets"
    for name in recipe.preset_names():
        yield f"\n### {name}\n\n```toml\n{recipe.preset_text(name).rstrip()}\n```"


def errors_page() -> Iterable[str]:
    """Yield the page of errors: what each code means, how it comes about, what to do."""
    yield "# Errors"
    yield "\n`graphopt explain CODE` prints the same. The numbers are stable."
    family = ""
    for code, title in CODES.items():
        beginning = next(b for b in sorted(FAMILIES, key=len)[::-1] if code.startswith(b))
        if beginning != family:
            family = beginning
            name, raised, status = FAMILIES[beginning]
            yield f"\n## {name}\n\nPython: {raised}. Exit code: {status}."
        cause, remedy = PAGES[code]
        yield f"\n### {code}: {title}\n\n{cause}\n\n**What to do.** {remedy}"


def hooks_page() -> Iterable[str]:
    """Yield the page of hooks: each with its exact signature."""
    yield "# Hooks"
    yield (
        "\nA plugin implements some of these functions, each marked with `graphopt.hookimpl`. "
        "Each is called once per `Registry`, when its kind of thing is first asked for, without "
        "arguments, and returns a list. What is returned is checked; a thing that breaks the "
        "promise is error G404, and names the plugin. `Registry` is the only caller."
    )
    tree = ast.parse(inspect.getsource(hookspecs))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            plural = node.name.removeprefix("graphopt_register_")
            returns = ast.unparse(node.returns) if node.returns else "None"
            yield f"\n## {node.name}\n\n```text\n{node.name}() -> {returns}\n```"
            yield f"\n{plain(ast.get_docstring(node) or '')}\n\n{HOOKS[plural]}"


def cli_page() -> Iterable[str]:
    """Yield the page of the command line."""
    yield "# Command line"
    yield (
        "\nResults go to stdout, everything else to stderr. Exit codes: 0 done; 1 a stated limit "
        "failed; 2 usage, input or internal error; 130 interrupted; 141 the reader of the output "
        "has gone."
    )
    for name, (module, _) in COMMANDS.items():
        command = importlib.import_module(module).command
        yield from _command(f"graphopt {name}", command)
    yield "\n## Options of every command"
    yield from table(
        ("option", "environment", "meaning"),
        [(_names(o), f"`{o.envvar}`", o.help or "") for o in GLOBAL_OPTIONS],
    )
    yield "\n## Environment"
    yield from table(
        ("variable", "meaning"),
        [
            (
                "`GRAPHOPT_PLUGINS`",
                "Names of the plugins to use, separated by commas; empty: none.",
            ),
            (
                "`GRAPHOPT_CACHE`",
                "Folder of calibration statistics and of this machine's profile; empty: none are "
                "kept.",
            ),
            ("`NO_COLOR`", "Any value: no colours."),
        ],
    )


def _command(path: str, command: click.Command) -> Iterable[str]:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    usage = " ".join(
        [path, "[OPTIONS]", *(p.make_metavar(click.Context(command)) for p in arguments)]
    )
    text = inline_code(inspect.cleandoc(command.help or ""))
    yield f"\n## {path}\n\n```text\n{usage}\n```\n\n{text}"
    options = [p for p in command.params if isinstance(p, click.Option)]
    if options:
        rows = [(_names(o), o.help or "") for o in options]
        yield from table(("option", "meaning"), rows)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _command(f"{path} {name}", inner)


def _names(option: click.Option) -> str:
    metavar = option.metavar
    if metavar is None and not option.is_flag and not option.count:
        choices = getattr(option.type, "choices", None)
        metavar = "|".join(choices) if choices else option.type.name.upper()
    names = ", ".join(f"`{name}`" for name in option.opts)
    return names if metavar is None else f"{names} `{metavar}`"


def api_page() -> Iterable[str]:
    """Yield the page of the public Python names."""
    yield "# Python API"
    yield "\nThe public names of `graphopt`, and, for those who write passes, of `graphopt.ir` and"
    yield "`graphopt.passes.patterns`."
    for module in (graphopt, graphopt.ir, patterns):
        yield f"\n## {module.__name__}"
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, str) or (module is not graphopt and name in graphopt.__all__):
                continue
            if thing is graphopt.hookimpl:
                yield "\n### graphopt.hookimpl\n\nMarks a function as a plugin's answer to the hook"
                yield "of its name; see [Hooks](hooks.md)."
            else:
                yield from _entry(f"{module.__name__}.{name}", thing)


def _entry(name: str, thing: Any) -> Iterable[str]:
    text, arguments = documented(thing)
    signature = _signature(thing) if inspect.isfunction(thing) else ""
    yield f"\n### {name}\n"
    if signature:
        yield f"```text\n{name.rpartition('.')[2]}{signature}\n```\n"
    yield preformatted(text)
    yield from (f"- `{key}`: {meaning}" for key, meaning in arguments.items())
    if inspect.isclass(thing):
        if issubclass(thing, enum.Enum):
            yield f"\nMembers: {', '.join(f'`{member}`' for member in thing.__members__)}."
        yield from _members(thing)


def _signature(function: Any) -> str:
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}"


def _members(kind: type[Any]) -> Iterable[str]:
    rows = []
    for name, member in vars(kind).items():
        inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(inner) or not inspect.getdoc(inner):
            continue
        text = plain((inspect.getdoc(inner) or "").partition("\n\n")[0])
        shown = name if isinstance(member, property) else name + _signature(inner)
        rows.append((f"`{shown}`", text))
    if rows:
        yield from table(("member", "meaning"), rows)


if __name__ == "__main__":
    sys.exit(main())
