"""The real server with an index that follows changes at once, so that tests of it need not wait.

    python tests/lsp_server/indexing_server.py [GATE] --stdio

Where a gate is named, the process that makes the index says that it has read one file of two and goes on once there is
a file of that name.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.retrieval import build
from lsp_server import workspace
from lsp_server.__main__ import main

HELD = "--held"


def held_build(gate: Path) -> int:
    """The process of an index."""
    print('{"read":1,"of":2}', flush=True)
    while not gate.exists():
        time.sleep(0.01)
    return build.main()


if __name__ == "__main__":
    if sys.argv[1] == HELD:
        sys.exit(held_build(Path(sys.argv[2])))
    workspace.SETTLED, workspace.SHARE = 0.05, 100.0
    if not sys.argv[1].startswith("--"):
        vars(workspace)["BUILD"] = (sys.executable, __file__, HELD, sys.argv.pop(1))
    sys.exit(main())
