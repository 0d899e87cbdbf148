"""The keys of the config files as pages of tables, from their JSON schemas: for ``assemble.py``.

Each object of a schema with keys of its own is a section: its keys, with type, default and description. What
several schemas share is on the page of the first one, and the others link to it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]
WRITTEN = {"suite": "Suites", "models": "Models", "methods": "Methods"}
FILES = {
    "suite": "a suite file (`config/*.yaml`)",
    "models": "`models.yaml`",
    "methods": "`config/methods.yaml`",
}
BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))


@dataclass
class Section:
    """An object with keys: where it is explained, and where it is written."""

    schema: Schema
    page: str
    places: list[str] = field(default_factory=list)  # paths of keys, the first use first
    within: list[str] = field(default_factory=list)  # kinds of the sections that it is written in

    @property
    def kind(self) -> str:
        """Its ``kind``, if that is what tells it from others at the same place."""
        return str(self.schema["properties"].get("kind", {}).get("const", ""))

    @property
    def anchor(self) -> str:
        """Of its heading."""
        return str(self.schema["title"]).lower()


class Pages:
    """The sections of all schemas, in the order in which a reader comes upon them."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}  # by content

    def walk(self, page: str, schema: Schema, definitions: Schema, place: str, within: str = "") -> None:
        """Collect the sections below a value.

        Args:
            page: Which file it is of.
            schema: Of the value.
            definitions: What ``$ref`` names.
            place: The keys that lead to it, with dots between them.
            within: The kind of the section that it is written in.
        """
        found = resolved(schema, definitions)
        if "properties" not in found:
            for step, inner in parts(found):
                self.walk(page, inner, definitions, f"{place}{step}".lstrip("."), within)
            return
        key = json.dumps(found, sort_keys=True)
        known = key in self.sections
        section = self.sections.setdefault(key, Section(found, page))
        if section.page == page and place not in section.places:
            section.places.append(place)
        if within and within not in section.within:
            section.within.append(within)
        if not known:
            for name, inner in found["properties"].items():
                self.walk(page, inner, definitions, f"{place}.{name}".lstrip("."), section.kind or within)

    def type_of(self, schema: Schema, definitions: Schema, page: str) -> str:
        """What a value may be, in words; an object with keys is a link to its section."""
        found = resolved(schema, definitions)
        if "properties" in found:
            section = self.sections[json.dumps(found, sort_keys=True)]
            file = "" if section.page == page else f"{section.page}.md"
            return f"[{f'`kind: {section.kind}`' if section.kind else 'section'}]({file}#{section.anchor})"
        if "const" in found:
            return f"`{json.dumps(found['const'])}`"
        if "enum" in found:
            return ", ".join(f"`{json.dumps(each)}`" for each in found["enum"])
        inner = list(dict.fromkeys(self.type_of(each, definitions, page) for _, each in parts(found)))
        if "oneOf" in found:
            return f"section of {', '.join(inner)}"
        if "anyOf" in found:
            return " or ".join(inner)
        match found.get("type"):
            case "array":
                return f"list of: {inner[0]}" if inner else "list"
            case "object":
                return f"mapping of names to: {inner[0]}" if inner else "mapping"
            case "string" if found.get("format") == "path":
                return "path"
            case "string":
                return "text"
            case None:
                return "anything"
            case name:
                bounds = [f"{sign} {found[bound]}" for bound, sign in BOUNDS if bound in found]
                return " ".join([str(name), ", ".join(bounds)]).strip()

    def table(self, section: Section, definitions: Schema) -> Iterator[str]:
        """The keys of a section."""
        yield "| key | type | default | description |"
        yield "|:--|:--|:--|:--|"
        required = section.schema.get("required", [])
        names = section.schema["properties"]
        for name in sorted(names, key=lambda name: (name != "kind", name not in required)):
            found = names[name]
            default = "*required*" if name in required else "*optional*"
            if "default" in found:
                default = f"`{json.dumps(found['default'], ensure_ascii=False)}`"
            kind = self.type_of(found, definitions, section.page)
            yield f"| `{name}` | {kind} | {default} | {plain(found.get('description', ''))} |"

    def heading(self, section: Section) -> str:
        """The place and kind of a section; with the kinds that it is written in, if others have the same."""
        if not section.places[0]:
            return "Top level"
        words = [f"`{section.places[0]}`"] + ([f"`kind: {section.kind}`"] if section.kind else [])
        alike = [
            each
            for each in self.sections.values()
            if (each.places[0], each.kind) == (section.places[0], section.kind)
        ]
        if len(alike) > 1:
            words.append(f"of `{section.within[0]}`" + (" and others" if len(section.within) > 1 else ""))
        return ", ".join(words)


def pages_of(schemas: dict[str, Schema]) -> dict[str, str]:
    """A page in Markdown for each schema, by its name.

    Args:
        schemas: By name; sections that several have are on the page of the first.
    """
    pages = Pages()
    for name, schema in schemas.items():
        pages.walk(name, schema, schema["$defs"], "")
    written = {}
    for name, schema in schemas.items():
        lines = [f"# {WRITTEN[name]}", "", f"The keys of {FILES[name]}, from its JSON schema.", ""]
        if "properties" not in schema:
            lines += [f"Top level: {pages.type_of(schema, schema['$defs'], name)}.", ""]
        for section in pages.sections.values():
            if section.page == name:
                lines += [f"## {pages.heading(section)} {{ #{section.anchor} }}", ""]
                lines += [plain(section.schema.get("description", "")), ""]
                if len(section.places) > 1:
                    lines += [f"Also at {listed(section.places[1:])}.", ""]
                if len(section.within) > 1:
                    lines += [f"For the kinds {listed(section.within)}.", ""]
                table = pages.table(section, schema["$defs"])
                lines += ['<div class="keys" markdown>', "", *table, "", "</div>", ""]
        written[name] = "\n".join(lines)
    return written


def resolved(schema: Schema, definitions: Schema) -> Schema:
    """What a ``$ref`` stands for."""
    return definitions[schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema


def parts(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """What a value is made of, or may be; each with what it adds to the place."""
    for each in schema.get("oneOf", schema.get("anyOf", [])):
        yield "", each
    if schema.get("items"):
        yield "", schema["items"]
    for each in schema.get("patternProperties", {}).values():
        yield ".NAME", each
    if isinstance(schema.get("additionalProperties"), dict):
        yield ".NAME", schema["additionalProperties"]


def listed(names: list[str]) -> str:
    """Names with commas between them, as code."""
    return ", ".join(f"`{name}`" for name in names)


def plain(text: str) -> str:
    """A description for a cell: one line, in which nothing but code in backticks is markup."""
    pieces = re.split(r"(`+[^`]*`+)", " ".join(text.split()))
    for number, piece in enumerate(pieces):
        if not piece.startswith("`"):
            pieces[number] = re.sub(r"([*_\[\]])", r"\\\1", html.escape(piece, quote=False))
    return "".join(pieces).replace("|", "\\|")
