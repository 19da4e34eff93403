"""An hour of typing in ten minutes, to the server as users get it: memory, threads and descriptors must stay flat.

    python tests/soak.py [--keys 18000] [--per-second 30]

Prints a line for each tenth and exits with 1 where the last has more than the third had.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
from lsp_client import REAL, ROOT, LspClient

FILES = sorted((ROOT / "lsp_server").glob("*.py"))
FIRST = 2  # tenths in which caches fill
MORE_MEMORY = 1.1  # a factor: allocators keep some


class Use(NamedTuple):
    megabytes: float
    threads: int
    descriptors: int


def use(pid: int) -> Use:
    process = psutil.Process(pid)
    descriptors = process.num_handles() if sys.platform == "win32" else process.num_fds()
    return Use(process.memory_info().rss / 1e6, process.num_threads(), descriptors)


async def type_files(client: LspClient, keys: int, per_second: float) -> list[Use]:
    """Type the files over and over, a request a key. Returns what the server used after each tenth."""
    rng, uses, typed = random.Random(0), list[Use](), 0
    for path in itertools.cycle(FILES):
        uri, text = path.as_uri(), path.read_text("utf-8")
        at = text.index("\n", rng.randrange(len(text) // 2))
        line = text.count("\n", 0, at + 1)
        client.open(uri, text[: at + 1] + "\n" + text[at + 1 :])
        for character, key in enumerate(text[at + 1 :].partition("\n")[0]):
            client.insert(uri, line, character, key)
            client.ask(uri, line, character + 1)
            typed += 1
            await asyncio.sleep(1 / per_second)
            if typed % (keys // 10) == 0:
                await client.request("inpaint/statistics")
                uses.append(use(client.process.pid))
                print(f"{typed} keys: {uses[-1].megabytes:.0f} MB, {uses[-1].threads} threads, "
                      f"{uses[-1].descriptors} descriptors", flush=True)  # fmt: skip
            if typed == keys:
                return uses
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    return uses


def is_flat(uses: list[Use]) -> bool:
    before, after = uses[FIRST], uses[-1]
    return after.megabytes < before.megabytes * MORE_MEMORY and after[1:] <= before[1:]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=18_000)
    parser.add_argument("--per-second", type=float, default=30)
    arguments = parser.parse_args()
    async with LspClient.start(REAL, cwd=Path(ROOT)) as client:
        await client.initialize()
        uses = await type_files(client, arguments.keys, arguments.per_second)
        code = await client.leave()
    flat = is_flat(uses)
    print("flat" if flat else "it grows")
    return 0 if flat and code == 0 else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
