"""`engine serve` with scripted workers: QUEUE and how many, by default one, on PORT of the environment or any."""

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


def main(queue: int, workers: int = 1) -> None:
    logging.basicConfig(format="inpaint: %(message)s")
    logging.getLogger("engine").setLevel(logging.INFO)
    worker = [sys.executable, str(Path(__file__).with_name("scripted_worker.py"))]
    asyncio.run(
        serve_on(
            listening("127.0.0.1", int(os.environ.get("PORT", "0"))),
            Service("scripted", worker, workers, queue),
            Keys({}),
        )
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
