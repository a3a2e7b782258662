"""Sphinx configuration. Built with `nox -s docs`, warnings as errors."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

project = "mcpgateway"
author = "the mcpgateway authors"
copyright = "2026, the mcpgateway authors"
release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "from_data"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_ext"]
nitpicky = True
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = f"mcpgateway {release}"
