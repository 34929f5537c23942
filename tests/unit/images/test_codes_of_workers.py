"""What a worker refuses is told by its own code: `wire` names every error that can happen there.

One that is not named would reach the caller as a fault of ours, which asking otherwise cannot mend.
"""

from __future__ import annotations

import ast
from pathlib import Path

from telecine.engine import errors
from telecine.engine.images.wire import CODES

FOLDER = Path(errors.__file__).parent / "images"
# What runs in a worker, below `child`, as the import contract has it. `grammar` runs there on what
# was parsed before, and refuses nothing any more.
IN_WORKERS = (
    "child", "facts", "loading", "pixels", "saving", "svg", "metadata", "colors", "picture",
    "geometry",
)  # fmt: skip


def raised(module: str) -> dict[str, str]:
    """Code → class of the errors that a module makes."""
    found = {}
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for word in node.keywords:
                if word.arg == "code" and isinstance(word.value, ast.Constant):
                    found[str(word.value.value)] = node.func.id
    return found


def test_every_error_of_a_worker_has_its_code_on_the_wire() -> None:
    made = {code: kind for module in IN_WORKERS for code, kind in raised(module).items()}
    assert {"crop_outside", "result_too_large"} <= made.keys()  # the search finds what there is
    named = {code: kind.__name__ for code, kind in CODES.items()}
    assert {code: named.get(code) for code in made} == made
