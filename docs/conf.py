"""Sphinx configuration. Built with `nox -s docs`, warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from mcpgateway import __version__ as release  # noqa: E402  # from the checkout, which the path now has

project = "mcpgateway"
author = "the mcpgateway authors"
copyright = "2026, the mcpgateway authors"

extensions = ["myst_parser", "from_data"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_ext"]
nitpicky = True
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = f"mcpgateway {release}"
