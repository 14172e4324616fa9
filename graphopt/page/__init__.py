"""The report as a page: one HTML file that needs no network."""

from __future__ import annotations

from graphopt.page.available import check_available
from graphopt.page.document import page

__all__ = ["check_available", "page"]
