"""Canaries: a module and a pickled object that write a file when they are run, and configs that would import the module."""

import pathlib
import sys
import tempfile

CANARY = """
import pathlib
pathlib.Path({path!r}).write_text("the canary was run")

def payload(*arguments, **named):
    pathlib.Path({path!r}).write_text("the canary was called")
"""
GIN = {
    "import": "import canary_payload\n",
    "import from a package": "from canary_payload import payload\n",
    "include": "include '{folder}/included.gin'\n",
    "dynamic registration": "from __gin__ import dynamic_registration\nimport canary_payload\ncanary_payload.payload.x = 1\n",
    "macro": "from __gin__ import dynamic_registration\nimport canary_payload\nM = @canary_payload.payload()\ntrain.epochs = %M\n",
}


class Pickled:
    """Runs the canary when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import canary_payload",))


def lay(case):
    """Put the module on the import path for the test class `case`; return (its folder, the file that it writes)."""
    folder = pathlib.Path(case.enterClassContext(tempfile.TemporaryDirectory()))
    (folder / "canary_payload.py").write_text(CANARY.format(path=str(folder / "hit")))
    (folder / "included.gin").write_text("import canary_payload\n")
    sys.path.insert(0, str(folder))
    case.addClassCleanup(sys.path.remove, str(folder))
    return folder, folder / "hit"
