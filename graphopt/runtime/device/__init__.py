"""What runs on the device that is measured: it needs Python 3.9, onnxruntime and numpy alone."""

from __future__ import annotations

SCHEMA = 1
"""Of the file of results."""

MODULES = ("__init__.py", "facts.py", "measure.py", "timing.py")
"""What is carried to the device."""

__all__ = ["MODULES", "SCHEMA"]
