"""A configuration as its canonical keys, for ``check`` and for logs: what was given, without a secret.

Environment and headers are secret throughout. Elsewhere secrets are where people put them: in the query of a URL, and
in arguments such as ``--api-key=…``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import attrs
import cattrs
from cattrs.dispatch import UnstructureHook
from cattrs.gen import make_dict_unstructure_fn, override

from mcpgateway import durations
from mcpgateway.config.model import Config, Seconds, Secret, ServerConfig, is_keyed
from mcpgateway.errors import JSON

_MASK = "***"
_SECRET_FLAG = re.compile(
    r"-{0,2}[\w-]*(?:key|token|secret|password|passwd|auth|bearer|credential)[\w-]*", re.IGNORECASE
)


def describe(config: Config, *, defaults: bool = False) -> dict[str, JSON]:
    """The configuration in canonical keys, as JSON; with ``defaults`` also what nobody gave.

    Loading the result gives an equal configuration, but for the secrets, which are ``***``.
    """
    return cast("dict[str, JSON]", _converter(omit=not defaults).unstructure(config))


def masked_url(url: str) -> str:
    """The URL with ``***`` for the values of its query and for a user and password."""
    parts = urlsplit(url)
    query = re.sub(r"(?<==)[^&]*", _MASK, parts.query) if "=" in parts.query else _MASK if parts.query else ""
    host = parts.netloc.rpartition("@")
    netloc = f"{_MASK}@{host[2]}" if host[1] else host[2]
    return parts._replace(query=query, netloc=netloc).geturl()


def masked_arguments(args: tuple[str, ...]) -> list[str]:
    """Arguments with ``***`` for what follows a flag that names a secret."""
    return list(_masked(args))


def _masked(args: tuple[str, ...]) -> Iterator[str]:
    secret = False
    for argument in args:
        flag, equals, _ = argument.partition("=")
        named = _SECRET_FLAG.fullmatch(flag) is not None
        if named and equals:
            yield f"{flag}={_MASK}"
        else:
            yield _MASK if secret and not argument.startswith("-") else argument
        secret = named and not equals


@lru_cache(maxsize=2)
def _converter(*, omit: bool) -> cattrs.Converter:
    converter = cattrs.Converter(omit_if_default=omit)
    converter.register_unstructure_hook_func(lambda cls: cls == Seconds, durations.format)
    converter.register_unstructure_hook(Secret, lambda _: _MASK)
    converter.register_unstructure_hook(Path, str)
    converter.register_unstructure_hook_factory(attrs.has, lambda cls: _class_hook(cls, converter, omit=omit))
    # A mapping of servers knows only their base class: look at each again.
    converter.register_unstructure_hook_func(lambda cls: cls is ServerConfig, converter.unstructure)
    return converter


def _class_hook(cls: type[attrs.AttrsInstance], converter: cattrs.Converter, *, omit: bool) -> UnstructureHook:
    names = attrs.fields_dict(cls)
    overrides = {name: special for name, special in _SPECIAL.items() if name in names}
    if is_keyed(cls):
        overrides["name"] = override(omit=True)
    # mypy holds the values of ** against every keyword of the function, the flags among them.
    inner = make_dict_unstructure_fn(cls, converter, _cattrs_omit_if_default=omit, **overrides)  # type: ignore[arg-type]
    return (lambda server: {"type": cls.type, **inner(server)}) if issubclass(cls, ServerConfig) else inner


_SPECIAL = {
    "source": override(omit=True),
    "url": override(unstruct_hook=masked_url),
    "endpoint": override(unstruct_hook=lambda endpoint: masked_url(endpoint.reveal())),
    "proxy": override(unstruct_hook=lambda proxy: None if proxy is None else masked_url(proxy.reveal())),
    "args": override(unstruct_hook=masked_arguments),
}
