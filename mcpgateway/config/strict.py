"""A cattrs converter that coerces nothing: a number is not text, text is not a number, and a string is not a list.

The one exception is text that came out of ``${…}``, for a variable has no other way to be a number or a truth value.
Every complaint is a `Refused`; cattrs notes the way to it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import homogenous_tuple_structure_factory, is_mapping, mapping_structure_factory
from cattrs.dispatch import StructureHook
from cattrs.gen import make_dict_structure_fn, override

from mcpgateway import durations
from mcpgateway.config import adapters
from mcpgateway.config.document import Expanded, Refused, kind, shown, unexpected
from mcpgateway.config.model import Config, NamespaceConfig, Secret, ServerConfig, is_keyed
from mcpgateway.durations import Seconds

_E = TypeVar("_E", bound=enum.Enum)

_NAME = "<name>"
"""The key by which a server or namespace is told its own name; a file that writes ``name`` writes an unknown key."""


@lru_cache(maxsize=4)
def strict_converter(base: Path, home: Path) -> cattrs.Converter:
    """Structures canonical values; relative paths are under ``base``, and ``~`` is ``home``."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    for cls, hook in _SCALARS.items():
        converter.register_structure_hook(cls, hook)
    converter.register_structure_hook(Path, lambda value, _: _path(value, base, home))
    converter.register_structure_hook_func(lambda cls: cls == Seconds, _seconds)
    converter.register_structure_hook_func(lambda cls: isinstance(cls, type) and issubclass(cls, enum.Enum), _enum)
    converter.register_structure_hook_factory(is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(_is_tuple, _tuple_hook)
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    converter.register_structure_hook_func(lambda cls: cls is ServerConfig, lambda value, _: _server(value, converter))
    return converter


def _string(value: object, _: object) -> str:
    if not isinstance(value, str):
        quote = f' (quote it: "{str(value).lower()}")' if isinstance(value, bool | int | float) else ""
        raise Refused(f"expected a string, got {shown(value)}{quote}")
    return str(value)


def _integer(value: object, _: object) -> int:
    if isinstance(value, Expanded) and value.isdecimal() and value.isascii():
        return int(value)
    if type(value) is not int:
        quotes = " (write it without quotes)" if isinstance(value, str) and value.isdecimal() else ""
        raise Refused(f"expected a whole number, got {shown(value)}{quotes}")
    return value


def _number(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise unexpected("a number", value)
    return float(value)


def _boolean(value: object, _: object) -> bool:
    if isinstance(value, Expanded) and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise unexpected("true or false", value)
    return value


def _secret(value: object, _: object) -> Secret:
    if not isinstance(value, str):
        quote = " (quote it)" if isinstance(value, bool | int | float) else ""
        raise Refused(f"expected a string, got {kind(value)}{quote}")
    return Secret(value)


_SCALARS: dict[Any, Callable[[object, object], object]] = {
    str: _string,
    int: _integer,
    float: _number,
    bool: _boolean,
    Secret: _secret,
}


def _seconds(value: object, _: object) -> float:
    try:
        return durations.parse(_string(value, _))
    except ValueError:
        unit = (
            f' (give it a unit: "{value}s")' if isinstance(value, int | float) and not isinstance(value, bool) else ""
        )
        raise Refused(f'expected a duration such as "30s", got {shown(value)}{unit}') from None


def _enum(value: object, cls: type[_E]) -> _E:
    names = [member.value for member in cls]
    if value not in names:
        raise unexpected(f"one of {', '.join(names)}", value)
    return cls(value)


def _path(value: object, base: Path, home: Path) -> Path:
    text = _string(value, None)
    if not text or "\0" in text:
        raise unexpected("a path", value)
    return home / text[2:] if text.startswith("~/") else base / text


def _mapping_hook(cls: Any, converter: cattrs.Converter) -> StructureHook:
    # Any: cattrs passes type expressions around, which have no type of their own.
    named = get_args(cls)[1:] in ((ServerConfig,), (NamespaceConfig,))
    inner: StructureHook = mapping_structure_factory(cls, converter)
    return lambda value, cls: inner(_with_names(_mapping(value)) if named else _mapping(value), cls)


def _with_names(entries: Mapping[str, object]) -> Mapping[str, object]:
    return {name: {**entry, _NAME: name} if isinstance(entry, dict) else entry for name, entry in entries.items()}


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _tuple_hook(cls: Any, converter: cattrs.Converter) -> StructureHook:
    inner: StructureHook = homogenous_tuple_structure_factory(cls, converter)
    return lambda value, cls: inner(_list(value), cls)


def _class_hook(cls: Any, converter: cattrs.Converter) -> StructureHook:
    overrides = {"source": override(omit=True)} if cls is Config else {}
    if is_keyed(cls):
        overrides["name"] = override(rename=_NAME)
    inner: StructureHook = make_dict_structure_fn(cls, converter, **overrides)  # type: ignore[arg-type]  # see explain.py
    return lambda value, cls: inner(_mapping(value), cls)


def _server(value: object, converter: cattrs.Converter) -> ServerConfig:
    entry = _mapping(value)
    cls = adapters.choose({key: value for key, value in entry.items() if key != _NAME})
    return converter.structure({key: value for key, value in entry.items() if key != "type"}, cls)


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Refused(f"expected a mapping, got {kind(value)}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Refused(f"expected a list, got {kind(value)}")
    return value
