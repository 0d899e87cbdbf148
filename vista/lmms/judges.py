"""Whether a task's scores come from another model: found in its code, before anything is asked.

lmms-eval's tasks say so nowhere else. From the function that scores and the one that aggregates, the code is
followed to what it calls, as far as that is defined in a task's own modules.
"""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

# Packages through which tasks ask a judge.
JUDGES = (
    *(
        "openai",
        "anthropic",
        "azure",
        "litellm",
        "dashscope",
        "zhipuai",
        "google.generativeai",
        "google.genai",
    ),
    *("requests", "httpx", "aiohttp", "lmms_eval.llm_judge", "lmms_eval.verifiers.openai"),
)
# What lmms-eval calls only if its variable USE_LLM_JUDGE is True.
OPTIONAL = ("lmms_eval.tasks._task_utils.reasoning_utils", "llm_as_judge_sync", "USE_LLM_JUDGE")
VARIABLE = re.compile(r"(?:getenv\(|environ(?:\.get\(|\[))[\"']([A-Z][A-Z0-9_]*)[\"']")


def judge_of(*functions: Any) -> str | None:
    """What in the code of ``functions`` asks a judge, and the variables that configure it; or ``None``."""
    wanted: list[tuple[Any, Any]] = [(function, None) for function in functions]
    seen = set[tuple[int, int]]()
    while wanted:
        value, owner = wanted.pop()
        if (id(value), id(owner)) in seen:
            continue
        seen.add((id(value), id(owner)))
        function = _function(value)
        if function is None or not _is_of_tasks(function) or _is_switched_off(function):
            continue
        for used, holder in _uses(function, owner):
            if _is_judge(used):
                return f"{function.__qualname__} asks {_package_of(used)}{_variables(function)}"
            wanted.append((used, holder))
    return None


def _function(value: Any) -> FunctionType | None:
    value = value.func if isinstance(value, partial) else getattr(value, "__func__", value)
    found = inspect.unwrap(value) if callable(value) else value
    return found if isinstance(found, FunctionType) else None


def _is_judge(value: Any) -> bool:
    package = _package_of(value)
    return any(package == judge or package.startswith(f"{judge}.") for judge in JUDGES)


def _package_of(value: Any) -> str:
    """The module that a value is, or that it or its class is defined in."""
    if isinstance(value, ModuleType):
        return value.__name__
    owner = value if isinstance(value, type | FunctionType) else type(value)
    return str(getattr(owner, "__module__", ""))


def _uses(function: FunctionType, owner: Any) -> Iterator[tuple[Any, Any]]:
    """What a function's code uses, each with the object or class that it is a part of, if it is of one.

    Args:
        function: A function of a task, or a method of a class of one.
        owner: The object or class that it is called on.
    """
    names = _names(function.__code__)
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    found += [cell.cell_contents for cell in function.__closure__ or ()]
    found += [ModuleType(name) for name in _imports(function.__code__)]
    for value in found:
        yield value, None
    for holder in [owner, *(value for value in found if not isinstance(value, FunctionType | ModuleType))]:
        kind = holder if isinstance(holder, type) else type(holder)
        if holder is None or not _is_of_tasks(kind):
            continue
        parts: dict[str, Any] = {}
        for each in reversed(kind.__mro__):
            parts |= vars(each)
        parts |= vars(holder) if hasattr(holder, "__dict__") else {}
        called = {*names, "__call__", *(["__init__"] if holder is kind else [])}
        for name in called & parts.keys():
            yield parts[name], holder


def _is_of_tasks(value: Any) -> bool:
    """Whether a function or class is of a task's own code: of no package, or among lmms-eval's tasks."""
    package = _package_of(value)
    return package.startswith("lmms_eval.tasks") or ("." not in package and not _is_installed(value))


def _is_installed(value: Any) -> bool:
    owner = value if isinstance(value, type | FunctionType) else type(value)
    try:
        file = Path(inspect.getfile(owner))
    except (TypeError, OSError):
        return True  # built in, or made at run time
    return bool({"site-packages", "dist-packages"} & set(file.parts)) and "lmms_eval" not in file.parts


def _is_switched_off(function: FunctionType) -> bool:
    module, name, switch = OPTIONAL
    return (function.__module__, function.__name__) == (module, name) and str(
        function.__globals__.get(switch)
    ) != "True"


def _names(code: CodeType) -> set[str]:
    """The names that a function's code, and that of functions in it, may look up."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return {*code.co_names, *(name for each in inner for name in _names(each))}


def _imports(code: CodeType) -> Iterator[str]:
    """The modules that a function imports when it runs."""
    for each in dis.get_instructions(code):
        if each.opname == "IMPORT_NAME":
            yield str(each.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _imports(inner)


def _variables(value: Any) -> str:
    """The environment variables that the module of a judge's caller reads."""
    value = value.func if isinstance(value, partial) else value
    owner = value if isinstance(value, type | FunctionType) else type(value)
    globals_of: Mapping[str, Any] = getattr(owner, "__globals__", {})
    try:
        text = Path(str(globals_of.get("__file__") or inspect.getfile(owner))).read_text(encoding="utf-8")
    except (TypeError, OSError):
        return ""
    found = sorted(set(VARIABLE.findall(text)))
    return f", which lmms-eval configures by {', '.join(found)}" if found else ""
