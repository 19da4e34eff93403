"""`engine serve` with a scripted worker: QUEUE as the only argument, on PORT of the environment or any."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from engine.serving.keys import Keys
from engine.serving.serve import listening, serve_on
from engine.serving.service import Service


def main(queue: int) -> None:
    logging.basicConfig(format="inpaint: %(message)s")
    logging.getLogger("engine").setLevel(logging.INFO)
    worker = [sys.executable, str(Path(__file__).with_name("scripted_worker.py"))]
    asyncio.run(
        serve_on(
            listening("127.0.0.1", int(os.environ.get("PORT", "0"))), Service("scripted", worker, 1, queue), Keys({})
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
