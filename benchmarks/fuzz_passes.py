"""Random legal graphs through every exact pass, pairs of them and the lossless recipe, for a time.

The graphs are those of ``tests/fuzzing``: over 100 operators, opsets 7 to the runtime's newest,
open dimensions at three sizes, branches and loops, integers and truths, values without axes or
elements. A graph counts when onnxruntime runs it as it stands, without optimising it. Then each
pass alone, some pairs whose first pass changed it, and the preset ``lossless`` must leave a legal
graph with the same outputs, by the same runtime without optimising. Case ``n`` of a seed is the
same everywhere.

    python benchmarks/fuzz_passes.py --minutes 60 [--seed 0] [--first 0] [--failures FOLDER]
        [--go-on]

Minutes are of work: a case during which the process was stopped for long does not count. With
``--go-on`` an earlier run that was ended early is continued. Exits 1 when anything was wrong; each
such case lies in FOLDER as a model, as text and as inputs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from graphopt import ir  # noqa: E402
from graphopt.recipe import instantiate, preset  # noqa: E402
from graphopt.registry import Registry  # noqa: E402
from machine import describe  # noqa: E402
from tests.backend.exact import EXACT_PASSES  # noqa: E402
from tests.fuzzing.choices import Seeded  # noqa: E402
from tests.fuzzing.models import case_of, check, model  # noqa: E402

if TYPE_CHECKING:
    import onnx

    from graphopt.passes.base import Pass
    from tests.fuzzing.models import Case

RESULTS = HERE / "results" / "fuzzing.json"
PAIRS = 6
LONGEST_GAP = 20.0
"""Seconds for one case beyond which the process was stopped, not working."""
_CASES_OF_A_SEED = 1_000_000


@dataclass
class Tally:
    """What was tried, and what came of it."""

    next_case: int = 0
    cases: int = 0
    cases_run: int = 0
    """Cases that the runtime runs as they stand; only these are checked."""
    runs_of_passes: int = 0
    working_seconds: float = 0.0
    """The time of cases, without those during which the process was stopped."""
    processor_seconds: float = 0.0
    cases_by_operator: Counter[str] = field(default_factory=Counter)
    cases_by_opset: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, found: dict[str, Any]) -> Tally:
        """Return what an earlier run recorded."""
        made = cls()
        for each in fields(cls):
            held = found[each.name]
            setattr(made, each.name, Counter(held) if isinstance(held, dict) else held)
        return made


class Fuzzer:
    """Tries case after case.

    Args:
        seed: of all cases.
        failures: where cases are kept that went wrong.
        tally: is added to.
        record: the file of results, written now and then; none if None.
    """

    def __init__(self, seed: int, failures: Path, tally: Tally, record: Path | None) -> None:
        self.seed = seed
        self.failures = failures
        self.tally = tally
        self.record = record
        registry = Registry(plugins=())
        entries = preset("lossless").passes
        self.recipe = [instantiate(e, registry.pass_class(e.use)) for e in entries]

    def work(self, minutes: float) -> None:
        """Try case after case until so many minutes have been worked, earlier runs included."""
        self.failures.mkdir(parents=True, exist_ok=True)
        while self.tally.working_seconds < 60 * minutes:
            began, used = time.perf_counter(), time.process_time()
            self.one(self.tally.next_case)
            took = time.perf_counter() - began
            self.tally.processor_seconds += time.process_time() - used
            self.tally.working_seconds += took if took < LONGEST_GAP else 0.0
            self.tally.next_case += 1
            if not self.tally.next_case % 100:
                self.say()

    def one(self, number: int) -> None:
        """Try one case."""
        made = model(Seeded(self.seed * _CASES_OF_A_SEED + number))
        # Should the runtime crash, this is the case that did it.
        (self.failures / "current.onnx").write_bytes(made.SerializeToString())
        self.tally.cases += 1
        case = case_of(made)
        if case is None:
            return
        self.tally.cases_run += 1
        self.tally.cases_by_operator.update({n.op for n in case.graph.walk()})
        self.tally.cases_by_opset[str(case.graph.opset)] += 1
        changed = [
            n for n, make in EXACT_PASSES.items() if self._try(number, made, case, n, make())
        ]
        for one, other in self._pairs(number, changed):
            who = f"{one} then {other}"
            self.tally.pairs[who] += 1
            self._try(number, made, case, who, EXACT_PASSES[one](), EXACT_PASSES[other]())
        self._try(number, made, case, "lossless", *self.recipe)

    def _pairs(self, number: int, changed: list[str]) -> list[tuple[str, str]]:
        """Return some pairs whose first pass does something, and so may mislead the second."""
        if not changed:
            return []
        chosen = random.Random(number)
        names = sorted(EXACT_PASSES)
        return [(chosen.choice(changed), chosen.choice(names)) for _ in range(PAIRS)]

    def _try(self, number: int, made: onnx.ModelProto, case: Case, who: str, *steps: Pass) -> bool:
        self.tally.runs_of_passes += 1
        try:
            did = bool(check(case, steps, who))
        except Exception as error:
            self.tally.wrong[who] += 1
            self._keep(number, made, case, who, error)
            return False
        self.tally.changed[who] += did
        return did

    def _keep(
        self, number: int, made: onnx.ModelProto, case: Case, who: str, error: Exception
    ) -> None:
        """Write the case down, unless this run of passes has gone wrong often enough already."""
        words = " ".join(str(error).split())[:600]
        print(f"WRONG case {number}: {who}: {type(error).__name__}: {words}", flush=True)
        if self.tally.wrong[who] > 5:
            return
        base = self.failures / f"{who.replace(' ', '_')}-{self.seed}-{number}"
        base.with_suffix(".onnx").write_bytes(made.SerializeToString())
        base.with_suffix(".txt").write_text(f"{who}\n{error!r}\n\n{ir.to_text(case.graph)}\n")
        feeds = {f"{i} {k}": v for i, feed in enumerate(case.feeds) for k, v in feed.items()}
        np.savez(base.with_suffix(".npz"), **feeds)

    def say(self) -> None:
        """Print how far it is, and record it."""
        t = self.tally
        wrong, minutes = sum(t.wrong.values()), t.working_seconds / 60
        print(f"{minutes:.1f} min, {t.cases} cases, {t.runs_of_passes} runs, {wrong} wrong")
        sys.stdout.flush()
        if self.record is not None:
            self.record.write_text(json.dumps(self.row(), indent=2) + "\n")

    def row(self) -> dict[str, Any]:
        """Return what is recorded: sums first, then everything that a later run adds to."""
        t, alone = self.tally, sorted(EXACT_PASSES)
        return {
            "machine": describe(),
            "seed": self.seed,
            "working_minutes": round(t.working_seconds / 60, 1),
            "processor_minutes": round(t.processor_seconds / 60, 1),
            "operators": len(t.cases_by_operator),
            "passes": len(alone),
            "passes_that_never_changed_a_graph": [n for n in alone if not t.changed[n]],
            "distinct_pairs": len(t.pairs),
            "pairs_possible": len(alone) ** 2,
            "wrong_in_all": sum(t.wrong.values()),
            **{each.name: _sorted(getattr(t, each.name)) for each in fields(Tally)},
        }


def _sorted(held: Any) -> Any:
    return dict(sorted(held.items())) if isinstance(held, Counter) else held


def main() -> int:
    """Fuzz, print and record; return 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--go-on", action="store_true", help="add to what is recorded")
    parser.add_argument("--record", type=Path, default=RESULTS)
    given = parser.parse_args()
    tally = Tally(next_case=given.first)
    if given.go_on:
        tally = Tally.read(json.loads(given.record.read_text()))
    fuzzer = Fuzzer(given.seed, given.failures, tally, given.record)
    fuzzer.work(given.minutes)
    fuzzer.say()
    found = fuzzer.row()
    print(json.dumps({k: v for k, v in found.items() if not isinstance(v, dict)}, indent=2))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
