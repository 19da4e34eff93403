"""The command line: `--stdio` and `--tcp` for editors, `--try` for a terminal, `--doctor` for a bug report.

The model starts to load before the protocol's modules are imported, which takes as long.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from engine import AUTO, Engine, EngineError, options
from engine.contract import Sampling
from lsp_server.completer import Completer, LoadEngine
from lsp_server.log import default_file, set_up
from lsp_server.settings import Settings

NO_LOG = "none"


def main(argv: Sequence[str] | None = None, load_engine: LoadEngine = Engine.load) -> int:
    """Run the command line. Returns the exit code; `load_engine` makes an engine of a model and a device."""
    parser = command_line()
    arguments = parser.parse_args(argv)
    settings = Settings(model=arguments.model, device=arguments.device)
    try:
        choice = options.chosen(arguments)
    except EngineError as error:
        parser.error(str(error))
    if choice.family is not None or choice.sampling != Sampling():
        load_engine = partial(load_engine, family=choice.family, sampling=choice.sampling)
    if arguments.place is not None:
        from lsp_server.try_cli import try_place

        return try_place(arguments.place, settings, load_engine, arguments.watch)
    if arguments.doctor:
        from lsp_server.doctor import report

        return report(settings, load_engine)
    if arguments.stdio or arguments.tcp:
        set_up(None if arguments.log == NO_LOG else Path(arguments.log) if arguments.log else default_file())
        serve(arguments.tcp, settings, load_engine)
    parser.print_help()
    return 0


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("inpaint-lsp", description="Code completion that fills in the middle, over LSP.")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--stdio", action="store_true", help="serve an editor on standard input and output")
    way.add_argument("--tcp", metavar="HOST:PORT", type=address, help="serve one editor on a TCP port")
    way.add_argument("--try", metavar="FILE:LINE:COLUMN", dest="place", help="show the completion at a place of a file")
    way.add_argument("--doctor", action="store_true", help="say whether completion works here: for a bug report")
    parser.add_argument("--watch", action="store_true", help="with --try: show what each pass verifies, and its canvas")
    parser.add_argument("--log", metavar="FILE", help=f"where requests are logged, without text; {NO_LOG}: nowhere")
    options.add(parser, AUTO)
    return parser


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f'"{text}" is not HOST:PORT, such as 127.0.0.1:2087')
    return host, int(port)


def serve(tcp: tuple[str, int] | None, settings: Settings, load_engine: LoadEngine) -> NoReturn:
    """Serve one client until it leaves, on TCP where an address is given, else on stdin and stdout."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # or Ctrl-C would wait for a read of stdin to end
    completer = Completer(load_engine)
    completer.load(settings.model, settings.device)
    gc.disable()
    from lsp_server.server import create_server
    from lsp_server.transport import BAD_INPUT, AddressError, leave, serve_stdio, serve_tcp

    gc.freeze()  # the protocol's many classes stay: without this, a full collection stops the server for 50 ms
    gc.enable()
    server = create_server(completer, settings)
    try:
        if tcp:
            code = asyncio.run(serve_tcp(server.protocol, *tcp))
        else:
            server.watches_client = True
            stdout, sys.stdout = sys.stdout.buffer, sys.stderr  # a stray print must not break the protocol
            code = asyncio.run(serve_stdio(server.protocol, sys.stdin.buffer, stdout))
    except AddressError as error:
        print(f"inpaint: {error}.", file=sys.stderr)
        code = BAD_INPUT
    except OSError as error:
        print(f"inpaint: cannot serve ({error.strerror}): choose another --tcp address.", file=sys.stderr)
        code = BAD_INPUT
    completer.close()
    leave(code)


if __name__ == "__main__":
    sys.exit(main())
