"""Plots from matplotlib made fit for a page: its colours, its names, titles to hover over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup

COLOURS = {
    "--fg": "#010203",
    "--muted": "#010204",
    "--line": "#010205",
    "--accent": "#010206",
    "--chosen": "#010207",
    "--bad": "#010208",
}
"""What stands for the colours of the page while a plot is drawn."""

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"font: ([^;']*?px) [^;]*")


def inline(image: bytes, prefix: str, label: str, titles: Mapping[str, str]) -> Markup:
    """Return an SVG file as an element of a page.

    Args:
        image: what matplotlib wrote, with ``COLOURS``.
        prefix: what names in it begin with, so that they are unique on the page.
        label: what it shows, for those who cannot see it.
        titles: by the id of a group, what to show when the pointer rests on it.
    """
    from markupsafe import Markup

    # It was written a moment ago by matplotlib, which escapes; nothing in it is declared.
    root = ET.fromstring(image)  # noqa: S314
    for parent in list(root.iter()):
        # Metadata; and rules that a browser would apply to the whole page.
        for child in [c for c in parent if c.tag in {f"{_SVG}metadata", f"{_SVG}style"}]:
            parent.remove(child)
    root.set("style", "stroke-linejoin: round")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    for group in [g for g in root.iter(f"{_SVG}g") if g.get("id") in titles]:
        title = ET.Element("title")
        title.text = titles[group.get("id", "")]
        group.insert(0, title)
    _rename(root, prefix)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        if "style" in element.attrib:
            element.set("style", _styled(element.attrib["style"]))
    # All of it went through the serializer, which escapes.
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


def _rename(root: ET.Element, prefix: str) -> None:
    """Keep the names that something refers to, made unique; references stay within the page."""
    used = set()
    for element in root.iter():
        target = element.attrib.pop(_HREF, None)
        if target is not None:
            used.add(target[1:])
            element.set("href", f"#{prefix}-{target[1:]}")
        clip = element.get("clip-path")
        if clip is not None:
            name = clip.removeprefix("url(#").removesuffix(")")
            used.add(name)
            element.set("clip-path", f"url(#{prefix}-{name})")
    for element in root.iter():
        name = element.attrib.pop("id", "")
        if name in used:
            element.set("id", f"{prefix}-{name}")


def _styled(style: str) -> str:
    for name, stand_in in COLOURS.items():
        style = style.replace(stand_in, f"var({name})")
    # The font is the page's.
    return _FONT.sub(r"font-size: \1", style)
