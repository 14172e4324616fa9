"""Write one torchvision architecture at 224 pixels; the pruning scoreboard has them smaller.

Runs in a process of its own: ``host_export.py NAME OUTPUT``, as ``torchvision_export.py`` does.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "pruning"))

import torchvision_export as exporter

exporter.IMAGE = 224
exporter.SIZES = {}
exporter.SETTLING = 2  # nobody looks at the outputs

if __name__ == "__main__":
    exporter.main()
