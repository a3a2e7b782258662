"""Text → `Node`: one module per format, each with lines, and with duplicate keys as problems.

What may be said about a syntax error is only where it is and what was expected: parsers like to quote the line, and
the line may hold a secret.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from mcpgateway.config.document import Invalid, Node, Problem

Format: TypeAlias = Literal["yaml", "json", "toml"]
FORMATS: tuple[Format, ...] = get_args(Format)


def parse(text: str, format: Format) -> tuple[Node, list[Problem]]:
    """Read a document; of a key that is given twice the first counts, and the second is a problem.

    :raises Invalid: the text is not of this format
    """
    try:
        return _parse(text, format)
    except RecursionError:
        raise Invalid(Problem("nested too deeply")) from None


def _parse(text: str, format: Format) -> tuple[Node, list[Problem]]:
    # Imported when used: ruamel alone costs 15 ms.
    match format:
        case "json":
            from mcpgateway.config.formats.jsontext import read_json

            return read_json(text)
        case "yaml":
            from mcpgateway.config.formats.yamltext import read_yaml

            return read_yaml(text)
        case "toml":
            from mcpgateway.config.formats.tomltext import read_toml

            return read_toml(text), []
