"""The version of graphopt."""

from __future__ import annotations

VERSION = "0.1.0"
