"""Reading YAML as it is meant: no key twice, keys that are text, no tags, and no bomb of aliases.

It serves everything that reads a file of the user's: suites, models, methods, assumptions, and the config
files of accelerate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vista.errors import VistaError

MOST_VALUES = 100_000  # of a file, aliases written out; a suite has some hundred


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which would keep the last of two values of a key, and read ``no:`` as ``False``."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text, each once."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key)
                raise _problem(
                    key_node, f"key {written} is read as {key!r}, not as text; quote it: '{written}'"
                )
            if key in seen:
                raise _problem(key_node, f"key {key!r} stands twice; remove one of them")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _problem(node: yaml.Node, what: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values at and below a node, each alias counted as what it stands for."""
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
    """The value that a YAML document holds.

    Raises:
        ValueError: it is not YAML, has a key twice or one that is no text, a tag, more values than any
            file of ours has, or is nested too deeply; says where.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_VALUES:
            raise ValueError(
                f"more than {MOST_VALUES} values, or an alias that holds itself; write out what the aliases "
                "stand for"
            )
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_explained(error)) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{' '.join(str(error).split())}; save it as plain text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("nested too deeply; remove the inner brackets") from error
    finally:
        loader.dispose()


def _explained(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, with the line, and what usually is the reason."""
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    said = error.problem or error.context or "not YAML"
    if "\\t" in said:
        said += "; use spaces, not tabs"
    elif "constructor for the tag" in said:
        said += "; remove the tag, values are plain"
    elif not isinstance(error, yaml.constructor.ConstructorError):
        said += "; mend the line, or the one before it"
    return where + said


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        VistaError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VistaError(f"{path}: no such file; mend the path, or write it") from error
    except OSError as error:
        raise VistaError(f"{path}: cannot be read ({error.strerror}); name a file that can") from error
    except UnicodeDecodeError as error:
        raise VistaError(f"{path}: not text in UTF-8 ({error}); save it as that") from error
    except ValueError as error:
        raise VistaError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise VistaError(f"{path}: expected a mapping of keys to values, found {found}")
    return value
