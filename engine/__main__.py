"""Command line of the engine: fill, eval, bench, train. Each command's code is imported only when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.contract import EngineError

DEVICES = ("auto", "cpu", "cuda", "mps")
TRAIN_EXTRA = "this command needs the training extra: pip install 'inpaint-lsp[train]'"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 2 for bad input or a model that cannot be loaded, with one sentence on stderr."""
    args = parser().parse_args(arguments)
    try:
        args.run(args)
    except EngineError as error:
        print(f"inpaint: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"inpaint: {TRAIN_EXTRA} ({error.name} is missing)", file=sys.stderr)
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m engine", description="The denoising engine of Inpaint.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _fill(commands.add_parser("fill", help="fill gaps read from standard input"))
    _eval(commands.add_parser("eval", help="measure a model on the reserved packages"))
    _bench(commands.add_parser("bench", help="time passes and requests"))
    _train(commands.add_parser("train", help="build the corpus, train and export the embedded model"))
    return top


def _fill(command: argparse.ArgumentParser) -> None:
    command.add_argument("--jsonl", action="store_true", required=True, help="read and write JSON lines")
    command.add_argument("--model", default="nano", help="a shipped model, a folder or a hub id (default: nano)")
    command.add_argument("--device", choices=DEVICES, default="auto")
    command.add_argument("--max-lines", type=int, help="the most lines of a fill, where the request does not say")

    def run(args: argparse.Namespace) -> None:
        from engine import Engine
        from engine.jsonl import fill_lines

        fill_lines(sys.stdin.buffer, sys.stdout.buffer, Engine.load(args.model, args.device), args.max_lines)

    command.set_defaults(run=run)


def _eval(command: argparse.ArgumentParser) -> None:
    command.add_argument("corpus", type=Path, help="a folder that `train corpus` wrote; its validation part is used")
    command.add_argument("--model", default="nano")
    command.add_argument("--places", type=int, default=500, help="cursor places (default: 500)")

    def run(args: argparse.Namespace) -> None:
        from engine.evaluation.cursors import evaluate, print_table

        print_table(evaluate(args.model, args.corpus / "validation", args.places))

    command.set_defaults(run=run)


def _bench(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", nargs="?", choices=["keys", "typing"], default="keys", help="steady keys, or people")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.add_argument("--model", default="nano")
    command.add_argument("--file", type=Path, help="the file that is typed (default: one of this package)")
    command.add_argument("--plot", type=Path, help="write a latency histogram of `typing` to this PNG")

    def run(args: argparse.Namespace) -> None:
        from engine.evaluation import latency, typing

        file = args.file or latency.SAMPLE
        if args.what == "keys":
            latency.bench(args.model, file, args.json)
        else:
            typing.bench(args.model, file, args.json, args.plot)

    command.set_defaults(run=run)


def _train(command: argparse.ArgumentParser) -> None:
    steps = command.add_subparsers(required=True, metavar="STEP")

    corpus = steps.add_parser("corpus", help="download wheels, check licences, filter, deduplicate")
    corpus.add_argument("--out", type=Path, required=True)
    corpus.add_argument("--evaluation", type=Path, help="folder of *.jsonl.gz problems to keep out")
    corpus.add_argument("--packages", type=Path, help="list of packages (default: the repository's)")
    corpus.add_argument("--wheels", type=Path, help="where downloads are kept (default: OUT/wheels)")
    corpus.set_defaults(run=_run_corpus)

    tokenizer = steps.add_parser("tokenizer", help="train the byte-level BPE")
    tokenizer.add_argument("--corpus", type=Path, required=True)
    tokenizer.add_argument("--out", type=Path, required=True, help="the tokenizer.json to write")
    tokenizer.add_argument("--vocab", type=int, default=8192)
    tokenizer.add_argument("--megabytes", type=float, default=60, help="size of the sample it is trained on")
    tokenizer.set_defaults(run=_run_tokenizer)

    run = steps.add_parser("run", help="train, or go on where it stopped")
    run.add_argument("--corpus", type=Path, required=True)
    run.add_argument("--tokenizer", type=Path, required=True)
    run.add_argument("--state", type=Path, required=True, help="folder of the resumable state, log and plot")
    run.add_argument("--config", type=Path, help="JSON of what differs from TrainConfig's defaults")
    run.add_argument("--steps", type=int, help="stop after so many steps in all")
    run.set_defaults(run=_run_training)

    export = steps.add_parser("export", help="write the weights that the engine loads")
    export.add_argument("--state", type=Path, required=True)
    export.add_argument("--tokenizer", type=Path, required=True)
    export.add_argument("--corpus", type=Path, required=True, help="for the model card's list of packages")
    export.add_argument("--out", type=Path, required=True)
    export.set_defaults(run=_run_export)

    plot = steps.add_parser("plot", help="plot the losses of a state's log")
    plot.add_argument("--state", type=Path, required=True)
    plot.set_defaults(run=_run_plot)


def _run_corpus(args: argparse.Namespace) -> None:
    from engine.training import corpus

    try:
        corpus.build(args.out, args.packages or corpus.PACKAGES, args.evaluation, args.wheels)
    except (OSError, ValueError) as error:
        raise EngineError(f"the corpus cannot be built: {error}") from None


def _run_tokenizer(args: argparse.Namespace) -> None:
    from engine.training import tokenizer

    tokenizer.run(args.corpus, args.out, args.vocab, args.megabytes)


def _run_training(args: argparse.Namespace) -> None:
    from engine.training import train

    train.run(train.read_config(args.config), train.DataPaths(args.corpus, args.tokenizer), args.state, args.steps)


def _run_export(args: argparse.Namespace) -> None:
    from engine.training import export

    export.run(args.state, args.tokenizer, args.corpus, args.out)


def _run_plot(args: argparse.Namespace) -> None:
    from engine.training.plot import plot_losses

    print(plot_losses(args.state))


if __name__ == "__main__":
    sys.exit(main())
