"""Has every ``vista`` command write down the modules of the package that it had loaded when it ended.

Python runs this at start-up where this folder is on PYTHONPATH. Files go to the folder VISTA_LOADED.
"""

import atexit
import json
import os
import sys
from pathlib import Path


def write_down() -> None:
    """One file for each process: its arguments, and its modules."""
    if Path(sys.argv[0]).name == "vista":
        folder = Path(os.environ["VISTA_LOADED"])
        folder.mkdir(exist_ok=True)
        modules = sorted(name for name in sys.modules if name.split(".")[0] == "vista")
        found = {"arguments": sys.argv[1:], "modules": modules}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(found))


atexit.register(write_down)
