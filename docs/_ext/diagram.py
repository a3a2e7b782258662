"""A state diagram as SVG, drawn from a table of transitions; where each state stands is the caller's to say. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

Point: TypeAlias = tuple[float, float]
Edges: TypeAlias = Mapping[tuple[str, str], Sequence[str]]
"""What leads from one state to another."""

WIDTH: Final = 104
HEIGHT: Final = 36
APART: Final = 15
"""Half the distance of two arrows between the same states, there and back."""
_STYLE: Final = (
    "fill:none;stroke:currentColor",
    "fill:currentColor;stroke:var(--color-background-primary,#fff);stroke-width:4;paint-order:stroke",
)


def svg(places: Mapping[str, Point], edges: Edges, *, first: str) -> Iterator[str]:
    """The lines of a diagram; ``first`` is the state in which everything begins."""
    width = max(x for x, _ in places.values()) + WIDTH
    height = max(y for _, y in places.values()) + HEIGHT
    yield f'<svg viewBox="0 0 {width:g} {height:g}" role="img" font-size="13" style="max-width:{width:g}px">'
    yield (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>'
    )
    for (start, end), labels in edges.items():
        yield from _arrow(places[start], places[end], ", ".join(labels), apart=(end, start) in edges)
    for name, (x, y) in places.items():
        bold = ";stroke-width:2.5" if name == first else ""
        box = f'x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="8"'
        yield f'<rect {box} style="{_STYLE[0]}{bold}"/>'
        yield f'<text x="{x:g}" y="{y + 4:g}" text-anchor="middle" fill="currentColor">{name}</text>'
    yield "</svg>"


def _arrow(start: Point, end: Point, label: str, *, apart: bool) -> Iterator[str]:
    """An arrow from border to border; beside its counterpart, where there is one."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    aside = (-math.sin(angle) * APART, math.cos(angle) * APART) if apart else (0.0, 0.0)
    x1, y1 = _border(start, angle, aside)
    x2, y2 = _border(end, angle + math.pi, aside)
    yield f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" style="{_STYLE[0]}" marker-end="url(#tip)"/>'
    x, y = x1 + (x2 - x1) * 0.45, y1 + (y2 - y1) * 0.45
    yield f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" style="{_STYLE[1]}">{label}</text>'


def _border(center: Point, angle: float, aside: Point) -> Point:
    """Where a ray that leaves a state at an angle, moved aside, crosses its border."""
    x, y = math.cos(angle), math.sin(angle)
    across = min(
        (math.copysign(WIDTH / 2, x) - aside[0]) / x if abs(x) > 1e-9 else math.inf,
        (math.copysign(HEIGHT / 2, y) - aside[1]) / y if abs(y) > 1e-9 else math.inf,
    )
    return center[0] + aside[0] + x * across, center[1] + aside[1] + y * across
