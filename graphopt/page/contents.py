"""What a page shows, section by section, ready to be laid out."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from graphopt.page.drawing import WIDTH, drawing
from graphopt.page.front import fronts
from graphopt.page.heat import heat
from graphopt.page.layers import layer_table
from graphopt.page.passes import pass_table
from graphopt.page.summary import asked, figures, origins
from graphopt.page.training import training
from graphopt.page.tried import tried
from graphopt.page.words import shortened

if TYPE_CHECKING:
    from graphopt.report import Report, SearchRecord

_EXPLANATIONS = 200


def contents(report: Report, search: SearchRecord | None) -> dict[str, Any]:
    """Return the variables of the template."""
    from markupsafe import escape

    return {
        "name": shortened(PurePath(report.source.path).name or "model", 60),
        "target": report.target,
        "figures": figures(report, search),
        "asked": asked(report, search),
        "origins": origins(report, search),
        "notices": report.notices,
        "search": search,
        "fronts": fronts(search),
        "tried": tried(report, search),
        "layers": layer_table(report),
        "heat": heat(report),
        "drawing": drawing(report.kernels),
        "sketch_width": WIDTH,
        "training": training(report),
        "passes": pass_table(report.passes),
        "explanations": report.explanations[:_EXPLANATIONS],
        "unexplained": max(0, len(report.explanations) - _EXPLANATIONS),
        # To be copied whole, however long.
        "recipe": escape(report.recipe),
    }
