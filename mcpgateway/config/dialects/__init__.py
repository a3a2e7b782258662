"""Foreign shapes of configuration, translated into canonical keys. Pure.

A dialect only translates: it moves nodes under other keys, and each node keeps the line and the address that it has in
the file. `shapes` recognises them; each has a module of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from mcpgateway.config.dialects.bridge import Bridge
from mcpgateway.config.dialects.desktop import Desktop
from mcpgateway.config.dialects.shapes import Dialect, detect
from mcpgateway.config.dialects.translation import Translation
from mcpgateway.config.document import Invalid, Node, Problem

__all__ = ["Dialect", "Translation", "detect", "translate"]


def translate(root: Node, env: Mapping[str, str] | None = None) -> Translation:
    """Bring a document into canonical keys.

    :param env: for dialects with variables of their own; ``None`` for none
    :raises Invalid: not a mapping, a mix of dialects, or one that this version does not read
    """
    if root.value is None:
        return Translation(attrs.evolve(root, value={}))
    if not isinstance(root.value, dict):
        raise Invalid(Problem("a configuration is a mapping of sections such as 'servers'", line=root.line))
    match detect(root):
        case Dialect.CANONICAL, _:
            return Translation(root)
        case Dialect.DESKTOP, _:
            return Desktop().translate(root)
        case Dialect.BRIDGE, _:
            return Bridge(env).translate(root)
        case dialect, mark:
            text = f"this is a configuration of {dialect.value}; not supported by this version yet"
            raise Invalid(Problem(text, mark.at, mark.line))
