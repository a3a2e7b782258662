"""A configuration as its canonical keys, for ``check`` and for logs: what was given, without a secret."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import cast

import attrs
import cattrs
from cattrs.dispatch import UnstructureHook
from cattrs.gen import make_dict_unstructure_fn, override

from mcpgateway import durations
from mcpgateway.config.masking import MASK, masked_arguments, masked_url
from mcpgateway.config.model import Config, Secret, ServerConfig, is_keyed
from mcpgateway.durations import Seconds
from mcpgateway.errors import JSON


def describe(config: Config, *, defaults: bool = False) -> dict[str, JSON]:
    """The configuration in canonical keys, as JSON; with ``defaults`` also what nobody gave.

    Loading the result gives an equal configuration, but for the secrets, which are ``***``.
    """
    return cast("dict[str, JSON]", _converter(omit=not defaults).unstructure(config))


@lru_cache(maxsize=2)
def _converter(*, omit: bool) -> cattrs.Converter:
    converter = cattrs.Converter(omit_if_default=omit)
    converter.register_unstructure_hook_func(lambda cls: cls == Seconds, durations.format)
    converter.register_unstructure_hook(Secret, lambda _: MASK)
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
