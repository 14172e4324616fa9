"""What a compile returns: the model, the report, and how to keep them."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.runtime import open_session
from graphopt.types import DType

if TYPE_CHECKING:
    from os import PathLike

    from graphopt.ir import Graph
    from graphopt.report import Report, SearchRecord
    from graphopt.runtime import Session


@dataclass(frozen=True)
class Compiled:
    """A compiled model and the report on how it came about.

    ``read_from`` is the files that weights of the original lie in, used or not.
    """

    graph: Graph
    report: Report
    read_from: frozenset[Path] = frozenset()

    def save(
        self,
        path: str | PathLike[str],
        *,
        html: bool = False,
        search: SearchRecord | None = None,
    ) -> tuple[Path, ...]:
        """Write the model, and the report beside it with the suffix ``.json``; return the files.

        All files are complete, or none is touched; a file that the model was read from is never
        overwritten.

        Args:
            path: of the model.
            html: also write the report as a page, with the suffix ``.html``.
            search: the search that the model is from; its facts join the report.

        Raises:
            ModelError: G208, a file cannot be written or is the input.
            GraphOptError: G110, what a page is made with is not installed.
        """
        target = Path(path)
        source = Path(self.report.source.path)
        beside = {target.with_suffix(".json"): (self.to_json(search) + "\n").encode()}
        if html:
            beside[target.with_suffix(".html")] = self.to_html(search).encode()
        if target in beside:
            raise ModelError(
                f"`{target}` is named as what is written beside it",
                code="G208",
                where=str(target),
                hint="give the model another suffix, such as .onnx",
            )
        written = (target, *beside, target.with_name(target.name + ".data"))
        overwritten = any(p.exists() and source.exists() and p.samefile(source) for p in written)
        if overwritten or any(p.resolve() in self.read_from for p in written):
            raise ModelError(
                f"`{target}` is the input, which is never overwritten",
                code="G208",
                where=str(target),
                hint="choose another name with --output",
            )
        return tuple(ir.save(self.graph, target, beside=beside))

    def session(self, threads: int = 1) -> Session:
        """Open the compiled model in onnxruntime on this machine."""
        return open_session(self.graph, threads=threads)

    def to_bytes(self) -> bytes:
        """Return the serialized model; raises ModelError G208 over 2 GiB."""
        return ir.to_bytes(self.graph)

    def to_json(self, search: SearchRecord | None = None) -> str:
        """Return the report as JSON, with a ``search`` where there is one; infinities are null."""
        facts = dataclasses.asdict(self.report)
        if search is not None:
            facts["search"] = dataclasses.asdict(search)
        return json.dumps(_plain(facts), indent=2, sort_keys=False)

    def to_html(self, search: SearchRecord | None = None) -> str:
        """Return the report as a page that reads nothing from outside.

        Raises:
            GraphOptError: G110, what a page is made with is not installed.
        """
        from graphopt.page import page

        return page(self.report, search)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, DType):
        return value.name.lower()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
