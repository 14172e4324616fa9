"""What happens to the streams and to a process that somebody stops: real processes and pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SLOW = """
    import sys, time
    from graphopt import api
    from graphopt.recipe import ResolvedRecipe
    from graphopt.recipe.schema import Recipe

    def compile_(model, *, observe, **given):
        observe.pass_started("slow")
        print("started", file=sys.stderr, flush=True)
        time.sleep(30)

    api.compile = compile_
    api.resolve_recipe = lambda **given: ResolvedRecipe(Recipe())
    from graphopt.cli.main import main
    sys.exit(main(["compile", "m.onnx"]))
"""


def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"m")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # Who runs the tests in the background ignores interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert err.strip() == "interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "graphopt", "explain", "G302"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")
