"""Race models in one process, interleaved: graph_race.py SECONDS < {"name": path}, prints JSON.

By name, the median over rounds of the ratio to `original`, and the ratio of the fastest rounds.
One thread, all optimisations, the smaller of the two inputs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from graph_inputs import feeds
from graphopt.errors import GraphOptError
from graphopt.runtime import Session, open_session, race

ORIGINAL = "original"


def main() -> None:
    """Race whatever opens and runs."""
    sessions: dict[str, Session] = {}
    inputs = None
    for name, path in json.load(sys.stdin).items():
        try:
            session = open_session(Path(path))
            inputs = inputs or feeds(session.inputs)[:1]
            session.run(inputs[0])
        except GraphOptError:
            continue
        sessions[name] = session
    if ORIGINAL not in sessions or inputs is None:
        print("{}")
        return
    result = race(sessions, inputs, seconds=float(sys.argv[1]), min_rounds=11)
    base = result.timings[ORIGINAL]
    found: dict[str, object] = {"original_ms": round(base.median_ms, 4), "rounds": base.rounds}
    for name in sessions:
        found[name] = {
            "speed": round(result.speedup(name, ORIGINAL), 4),
            "minima": round(result.speedup_of_minima(name, ORIGINAL), 4),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
