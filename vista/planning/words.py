"""Words that models are asked in and do not know, as their checks counted them; for ``vista doctor``."""

from __future__ import annotations

from vista.chat import told_unknown
from vista.config import Suite
from vista.engines.folders import read_object
from vista.paths import Paths
from vista.planning.findings import Finding, ok, warn
from vista.reads import Reads

REMEDY = "ask in words that it knows, or take a model whose tokenizer takes any text"


def check_words(suite: Suite) -> list[Finding]:
    """What the last ``vista encodable`` of every model counted."""
    paths = Paths(suite.results)
    reads = Reads(suite, paths)
    found: list[Finding] = []
    for model in suite.models:
        subject, file = f"words of {model}", paths.encodable(model)
        if not reads.asked(model):
            continue
        if not file.is_file():
            found.append(ok(subject, "counted before anything is spent (vista encodable)"))
            continue
        unknown = read_object(file).get("unknown", {})
        found += [warn(subject, told_unknown(where, counted), REMEDY) for where, counted in unknown.items()]
        found += [] if unknown else [ok(subject, "its tokenizer has tokens for all that it is asked")]
    return found
