"""wandb, imported once something of it is used.

lmms-eval requires wandb, and TRL and lmms-eval import it, used or not: a quarter of what they take to import.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAME = "wandb"


class Deferred(ModuleType):
    """Stands in for wandb: says which version it is and that nothing runs; all else imports the real one."""

    def __init__(self, spec: ModuleSpec) -> None:
        """Take the place of the module that ``spec`` finds."""
        super().__init__(NAME, "Not imported yet.")
        self.__spec__ = spec
        self.__file__ = spec.origin
        self.__path__: list[str] = []  # no submodule is found in it but by `Submodules`
        # What libraries ask for as they are imported.
        self._known = {"__version__": metadata.version(NAME), "run": None}
        self._real: ModuleType | None = None

    def __getattr__(self, name: str) -> Any:
        """What has no value here."""
        if self._real is None:
            if name in self._known:
                return self._known[name]
            if name.startswith("__"):
                raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        return getattr(self.real(), name)

    def real(self) -> ModuleType:
        """The module itself."""
        if self._real is None:
            if sys.modules.get(NAME) is self:
                del sys.modules[NAME]
            self._real = import_module(NAME)
        return self._real


class Submodules(MetaPathFinder, Loader):
    """Has the real wandb imported before a submodule that somebody imports first."""

    def __init__(self, parent: Deferred) -> None:
        """Watch for imports below ``parent``."""
        self.parent = parent
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Answer for what is below the stand-in, and for nothing below the real one."""
        return ModuleSpec(fullname, self) if path is self.parent.__path__ else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The submodule, as the real one imports it."""
        self.parent.real()
        module = import_module(spec.name)
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; only its origin is put back."""
        module.__spec__ = self.specs[module.__name__]


def defer() -> None:
    """Let later imports of wandb get the stand-in, if it is installed and not imported yet."""
    if NAME not in sys.modules and (spec := find_spec(NAME)) is not None:
        sys.modules[NAME] = parent = Deferred(spec)
        sys.meta_path.insert(0, Submodules(parent))
