"""Run commands in turn and say what each took: graph_timed.py ROUNDS < {"name": [command]}.

Prints, by name, one record a round: seconds from start to exit, seconds of processor time, the
largest resident set in MB, exit status, and the last line of what was said. This process imports
nothing large: a child's resident set begins with that of whoever started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

LIMIT = 3600


def run(command: list[str], folder: str) -> dict[str, object]:
    """Run one command in a folder of its own."""
    # Compiled modules are kept, as where these tools are installed for use.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=folder, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    return {
        "wall_s": round(seconds, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "rss_mb": round(usage.ru_maxrss / 1024, 1),
        "status": process.returncode,
        "said": next((line for line in reversed(lines) if line), "")[:300],
    }


def main() -> None:
    """Run every command once a round, in the order given, then backwards, and so on."""
    commands: dict[str, list[str]] = json.load(sys.stdin)
    found: dict[str, list[dict[str, object]]] = {name: [] for name in commands}
    for number in range(int(sys.argv[1])):
        for name in list(commands)[:: 1 if number % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(run(commands[name], folder))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
