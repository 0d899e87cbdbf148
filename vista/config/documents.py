"""Reading YAML and JSON so that a value means one thing.

Plain values are those of YAML 1.2's core schema; what YAML 1.1 reads differently is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from vista.errors import VistaError

MOST_SHOWN = 20  # problems of one file
MOST_VALUES = 100_000  # of a file, aliases written out; a suite has some hundred


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with plain values as YAML 1.2 reads them (its core schema), and merged keys."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})\Z"), _first)
_PLAIN: Any = _Loader("")  # tells what a value looks like

# What YAML 1.1 reads as something else, so that nobody can tell what was meant.
_SWITCH = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_ZEROS = re.compile(r"[-+]?0[0-9_]+")
_CLOCK = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_BINARY = re.compile(r"[-+]?0b[01_]+")
_GROUPED = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")


def _ambiguity(text: str) -> str | None:
    """Why a plain value could mean two things, and how to write either; ``None`` if it could not."""
    quoted = f"quote it if text is meant: '{text}'"
    if text == "<<":
        return f"<< merges a mapping into another, as a key; {quoted}"
    if _SWITCH.fullmatch(text):
        return f"{text} is a boolean or text, as one reads YAML; write true or false, or {quoted}"
    if _ZEROS.fullmatch(text):
        plain = text.replace("_", "").lstrip("-+").lstrip("0") or "0"
        return f"{text} is octal or decimal, as one reads YAML; write {plain}, or {quoted}"
    if _CLOCK.fullmatch(text):
        return f"{text} is a number in base 60 or text, as one reads YAML; write the number out, or {quoted}"
    if _BINARY.fullmatch(text) or ("_" in text and _GROUPED.fullmatch(text)):
        return f"{text} is a number or text, as one reads YAML; write it in plain digits, or {quoted}"
    return None


def _is_tagged(node: yaml.Node) -> bool:
    """Whether a tag makes a value something else than it looks like; ``!!str`` only says what it is."""
    if not isinstance(node, yaml.ScalarNode):
        kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
        return node.tag != f"tag:yaml.org,2002:{kind}"
    quoted = node.style is not None
    looks = _PLAIN.resolve(yaml.ScalarNode, node.value, (not quoted, quoted))
    return node.tag not in (looks, "tag:yaml.org,2002:str")


def _node_problems(node: yaml.Node, seen: set[int]) -> Iterator[tuple[yaml.Mark, str]]:
    """What is wrong with keys, tags, and values that could mean two things; each with its place."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if _is_tagged(node):
        yield (
            node.start_mark,
            f"tag {node.tag.replace('tag:yaml.org,2002:', '!!')}; remove it, values are plain",
        )
    elif isinstance(node, yaml.ScalarNode):
        what = None if node.style else _ambiguity(node.value)
        if what is not None:
            yield node.start_mark, what
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _node_problems(part, seen)
    elif isinstance(node, yaml.MappingNode):
        yield from _key_problems([key for key, _ in node.value])
        for _, value in node.value:
            yield from _node_problems(value, seen)


def _key_problems(keys: list[yaml.Node]) -> Iterator[tuple[yaml.Mark, str]]:
    """What is wrong with the keys of one mapping."""
    names: set[str] = set()
    for key in keys:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key, yaml.ScalarNode):
            yield key.start_mark, "a list or mapping is no key; write a text"
        elif key.tag != "tag:yaml.org,2002:str" or (not key.style and _ambiguity(key.value)):
            yield (
                key.start_mark,
                f"key {key.value} is read as something else than text; quote it: '{key.value}'",
            )
        elif key.value in names:
            yield key.start_mark, f"key {key.value!r} appears twice; remove one of them"
        else:
            names.add(key.value)


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values at and below a node, each alias counted as what it refers to."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # where a node holds itself
        below = []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        known[id(node)] = 1 + sum(_count(part, known) for part in below)
    return known[id(node)]


def parse_yaml(text: str) -> Any:
    """The value of a YAML document, or of a JSON one, whose tabs and escapes YAML does not know.

    Raises:
        ValueError: it is not YAML, has a key twice or one that is not text, a value that YAML 1.1 and 1.2
            read differently, a tag, more values than any file of ours has, or is nested too deeply; says
            where, for all keys and values at once.
    """
    with suppress(ValueError, RecursionError):  # what is wrong with it is told below
        return json.loads(text, object_pairs_hook=_once)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_VALUES:
            raise ValueError(
                f"more than {MOST_VALUES} values, or an alias that contains itself; write out the aliases"
            )
        found = [f"{_place(mark)}{what}" for mark, what in _node_problems(node, set())]
        if found:
            shown = found[:MOST_SHOWN] + (["…"] if len(found) > MOST_SHOWN else [])
            raise ValueError("\n  - ".join(["", *shown]) if len(found) > 1 else found[0])
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_explained(error)) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{' '.join(str(error).split())}; save it as plain text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("nested too deeply; remove the inner brackets") from error
    finally:
        if loader is not None:
            loader.dispose()


def as_in_a_file(said: Any) -> Any:
    """What ``snakemake --config`` says, with the types that a file gives it.

    Snakemake makes text of every value in a list or mapping there, and of ``true`` and ``null`` anywhere.
    What is empty stays text, as do words that a file refuses, since they could mean two things, and digits
    that make no number, such as a commit's ``12e4567``.
    """
    if isinstance(said, dict):
        return {name: as_in_a_file(value) for name, value in said.items()}
    if isinstance(said, list):
        return [as_in_a_file(value) for value in said]
    if not isinstance(said, str) or not said or _ambiguity(said) is not None:
        return said
    tag = _PLAIN.resolve(yaml.ScalarNode, said, (True, False))
    with suppress(ValueError):  # more digits than Python reads
        value = _PLAIN.construct_object(yaml.ScalarNode(tag, said))
        if not (said[-1].isdigit() and str(value).endswith("inf")):
            return value
    return said


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON document, if no key appears twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError
    return value


def _place(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _explained(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, with the line and the usual reason."""
    where = _place(error.problem_mark or error.context_mark)
    said = error.problem or error.context or "not YAML"
    if "\\t" in said:
        said += "; use spaces, not tabs"
    elif not isinstance(error, yaml.constructor.ConstructorError):
        said += "; fix the line, or the one before it"
    return where + said


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        VistaError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        value = deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise VistaError(f"{path}: no such file; correct the path, or write the file") from error
    except OSError as error:
        raise VistaError(f"{path}: cannot be read ({error.strerror}); name a readable file") from error
    except UnicodeDecodeError as error:
        raise VistaError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except ValueError as error:
        raise VistaError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise VistaError(f"{path}: expected a mapping of keys to values, found {found}")
    return value


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """What a text says; a plan reads some files for every run, and parsing takes far longer than reading."""
    return parse_yaml(text)
