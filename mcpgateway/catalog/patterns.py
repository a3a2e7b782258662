"""Allow and deny: names and globs (``*``, ``?``, ``[a-z]``, ``[!a-z]``) against the names of a tool, case included.

A pattern matches a name that it equals, or that it describes as a glob; so a tool with ``[`` in its name can be named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache
from typing import TypeAlias

from mcpgateway.catalog.rules import ToolRules

Matcher: TypeAlias = Callable[[str], bool]


@lru_cache(maxsize=1024)
def matcher(patterns: tuple[str, ...]) -> Matcher:
    """Whether one of the patterns matches a name. Compiled once per tuple of patterns."""
    if "*" in patterns:
        return lambda name: True
    if not patterns:
        return lambda name: False
    names = frozenset(patterns)
    glob = re.compile("|".join(translate(pattern) for pattern in patterns)).match
    return lambda name: name in names or glob(name) is not None


def permits(rules: Iterable[ToolRules], original: str, exposed: str) -> bool:
    """Whether every rule lets a tool through: its original or its exposed name is allowed, and neither is denied."""
    for rule in rules:
        allowed = matcher(rule.allow)
        if not (allowed(original) or allowed(exposed)):
            return False
    return not denies(rules, original) and not denies(rules, exposed)


def denies(rules: Iterable[ToolRules], name: str) -> bool:
    """Whether any of the rules denies the name."""
    return any(matcher(rule.deny)(name) for rule in rules)
