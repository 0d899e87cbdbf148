"""Has every ``vista`` command write down the modules that it had loaded, and the settings that it read.

Python runs this at start-up where this folder is on PYTHONPATH. Files go to the folder VISTA_LOADED.
"""

import atexit
import importlib.abc
import importlib.machinery
import json
import os
import sys
from pathlib import Path

READ = []  # settings objects of the resolved suite, with the fields that were asked for
DUMPED = []  # those that were turned into plain values as a whole
SUITE = []  # the suite, once it is loaded: what checking it reads does not count


def watch_settings(module):
    """Note every field of the suite that is asked for after it has been loaded."""
    strict = module.Strict
    plain, dump = strict.__getattribute__, strict.model_dump

    def noting(self, name):
        if SUITE and name in type(self).model_fields:
            READ.append((self, name))
        return plain(self, name)

    def dumping(self, *args, **kwargs):
        if SUITE:
            DUMPED.append(self)
        return dump(self, *args, **kwargs)

    strict.__getattribute__, strict.model_dump = noting, dumping


def watch_loading(module):
    """Note the suite that a job works on."""
    read = module.read

    def reading(path):
        suite, plan = read(path)
        SUITE.append(suite)
        return suite, plan

    module.read = reading


def leave_out_digests(module):
    """Do not count what is read to say what the output was made with."""
    module.digests = unwatched(module.digests)


def leave_out_names(module):
    """Do not count what is read of all methods to find the one that a run or a file is named after."""
    for name in ("run_named", "_method_where", "resampling_named"):
        setattr(module, name, unwatched(getattr(module, name)))


def unwatched(find):
    """The same function, during which nothing is noted."""

    def finding(*args):
        suites, SUITE[:] = list(SUITE), []
        try:
            return find(*args)
        finally:
            SUITE[:] = suites

    return finding


WATCHED = {
    "vista.settings": watch_settings,
    "vista.planned": watch_loading,
    "vista.dag": leave_out_digests,
    "vista.grid": leave_out_names,
}


class Watcher(importlib.abc.MetaPathFinder):
    """Finds the watched modules where Python does, and watches them once they are loaded."""

    def find_spec(self, name, path, target=None):
        if name not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def watching(module):
            execute(module)
            WATCHED[name](module)

        spec.loader.exec_module = watching
        return spec


def places(value, path=()):
    """By identity, where each settings object of the suite is."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*path, str(key)))
    elif hasattr(type(value), "model_fields"):
        yield id(value), path
        yield from places(value.__dict__, path)


def write_down():
    """One file for each process: its arguments, its modules and what it read."""
    if Path(sys.argv[0]).name != "vista":
        return  # the process that forks, whose forks are told apart by this, too
    folder = Path(os.environ["VISTA_LOADED"])
    folder.mkdir(exist_ok=True)
    modules = sorted(name for name in sys.modules if name.split(".")[0] == "vista")
    suites, SUITE[:] = list(SUITE), []
    where = dict(found for suite in suites for found in places(suite))
    read = {".".join([*where[id(each)], name]) for each, name in READ if id(each) in where}
    dumped = {".".join(where[id(each)]) for each in DUMPED if id(each) in where}
    found = {"arguments": sys.argv[1:], "modules": modules, "read": sorted(read), "dumped": sorted(dumped)}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(found))


if Path(sys.argv[0] if getattr(sys, "argv", None) else "").name == "vista" or "vista.warm" in sys.orig_argv:
    sys.meta_path.insert(0, Watcher())
    atexit.register(write_down)
