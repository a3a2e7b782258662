"""For whoever tests a gateway or writes an adapter: the adapter contract, an in-memory adapter, a fixture server.

Public, beside the ladder: anything may be imported here, and nothing outside tests imports it. The names are loaded
when they are first used, so that the fixture server starts without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpgateway.testing.contract import AdapterUnderTest, check_adapter
    from mcpgateway.testing.memory import MemoryAdapter

__all__ = ["AdapterUnderTest", "MemoryAdapter", "check_adapter"]

_MODULES = {"AdapterUnderTest": "contract", "MemoryAdapter": "memory", "check_adapter": "contract"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
