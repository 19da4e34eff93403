"""Command line of the engine: fill, eval, bench, serve, train. Each command's code is imported only when it runs."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import options
from engine.contract import EngineError
from engine.decoding.presets import AUTO, PASSES
from engine.languages import LANGUAGES

if TYPE_CHECKING:
    from engine.evaluation.report import Report

STEPS = {"auto": AUTO, **PASSES}
EVALUATIONS = ["lines", "typing", "humaneval", "edits", "--help", "-h"]
SPLITS = ["single-line", "multi-line", "random-span"]


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 2 for bad input or a model that cannot be loaded, with one sentence on stderr."""
    args = parser().parse_args(_with_what(sys.argv[1:] if arguments is None else arguments))
    try:
        if (found := args.run(args)) is not None:
            _print(found, args.json)
    except EngineError as error:
        print(f"inpaint: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        needed = f"this command needs an extra: pip install 'inpaint-lsp[{args.extra}]'"
        print(f"inpaint: {needed} ({error.name} is missing)", file=sys.stderr)
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        return 1
    return 0


def _print(found: object, as_json: bool) -> None:
    from engine.evaluation.report import Report

    (found if isinstance(found, Report) else Report(found)).print(as_json)


def _with_what(arguments: list[str]) -> list[str]:
    """`eval` alone is `eval lines`."""
    if arguments[:1] != ["eval"] or arguments[1:2] in ([what] for what in EVALUATIONS):
        return arguments
    return ["eval", "lines", *arguments[1:]]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m engine", description="The engine of Inpaint.")
    top.set_defaults(extra="train")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _fill(commands.add_parser("fill", help="fill gaps read from standard input"))
    _eval(commands.add_parser("eval", help="measure a model on the reserved packages"))
    _bench(commands.add_parser("bench", help="time passes and requests"))
    _get(commands.add_parser("get", help="fetch a better model, once"))
    _models(commands.add_parser("models", help="list the public models that --model takes, and what they support"))
    _serve(commands.add_parser("serve", help="serve many users over HTTP"))
    _train(commands.add_parser("train", help="build the corpus, train and export the embedded model"))
    return top


def _fill(command: argparse.ArgumentParser) -> None:
    command.add_argument("--jsonl", action="store_true", required=True, help="read and write JSON lines")
    options.add(command, "auto")
    command.add_argument("--steps", type=_steps, default=AUTO, help=f"denoising passes: a number, {', '.join(STEPS)}")
    command.add_argument("--max-lines", type=int, help="the most lines of a fill, where the request does not say")

    def run(args: argparse.Namespace) -> None:
        from engine.jsonl import fill_lines

        engine = options.chosen(args).load()
        fill_lines(sys.stdin.buffer, sys.stdout.buffer, engine, args.max_lines, args.steps)

    command.set_defaults(run=run)


def _get(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", help="of the model; none: lists them")
    command.add_argument("--from", dest="source", type=Path, metavar="FILE", help="the checkpoint, where you have it")
    command.add_argument("--remove", action="store_true", help="delete the model that was fetched")

    def run(args: argparse.Namespace) -> None:
        from engine import get

        if args.name is None and (args.source or args.remove):
            raise EngineError("say which model: python -m engine get base")
        if args.name is None:
            print(get.listed())
        elif args.remove:
            get.remove(args.name)
        else:
            get.get(args.name, args.source)

    command.set_defaults(run=run)


def _steps(text: str) -> int:
    return STEPS[text] if text in STEPS else max(1, int(text))


def _eval(command: argparse.ArgumentParser) -> None:
    whats = command.add_subparsers(required=True, metavar="WHAT")

    lines = whats.add_parser("lines", help="exact match at cursors of reserved packages")
    _corpus(lines)
    lines.add_argument("--places", type=int, default=500, help="cursor places (default: 500)")
    lines.add_argument("--workspace", action="store_true", help="with nothing, the file, open files, and the index")
    lines.add_argument("--json", action="store_true", help="print JSON instead of a table")
    lines.set_defaults(run=_run_eval_lines)

    typing = whats.add_parser("typing", help="what the suggestions save, typing into the language server")
    _corpus(typing)
    typing.add_argument("--lines", type=int, default=100, help="lines that are typed (default: 100)")
    typing.add_argument("--seed", type=int, default=0, help="chooses the lines (default: 0)")
    typing.add_argument("--packages", nargs="+", default=[], metavar="NAME", help="only these packages")
    typing.add_argument(
        "--options", default="{}", help="options of the server as JSON, such as '{\"minConfidence\": 0.3}'"
    )
    typing.add_argument(
        "--baselines", action=argparse.BooleanOptionalAction, default=True, help="and the model without copies"
    )
    typing.add_argument("--workspace", action="store_true", help="and with the index of the workspace's files")
    typing.add_argument(
        "--without", nargs="+", default=[], metavar="RULE", help='and without each of these rules, "all" of them'
    )
    typing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    typing.set_defaults(run=_run_eval_typing, extra="bench")

    humaneval = whats.add_parser("humaneval", help="HumanEval-Infilling, by execution in a sandboxed child")
    humaneval.add_argument("--data", type=Path, required=True, help="folder of HumanEval-*Infilling*.jsonl.gz")
    humaneval.add_argument("--split", choices=SPLITS, nargs="+", default=SPLITS)
    humaneval.add_argument("--limit", type=int, help="only so many problems of each split")
    humaneval.add_argument("--seed", type=int, default=0, help="chooses them (default: 0)")
    humaneval.add_argument("--no-copies", dest="copies", action="store_false", help="the model alone")
    humaneval.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add(humaneval, seed=False)
    humaneval.set_defaults(run=_run_eval_humaneval, extra="bench")

    edits = whats.add_parser("edits", help="next edits over git histories, without a model")
    edits.add_argument("histories", type=Path, nargs="+", metavar="GITDIR", help="bare repositories, or .git folders")
    edits.add_argument("--commits", type=int, default=1_500, help="the newest of each history (default: 1500)")
    edits.add_argument(
        "--shuffled", action="store_true", help="the edits of a file in any order, not from the top down"
    )
    edits.add_argument("--json", action="store_true", help="print JSON instead of a table")
    edits.set_defaults(run=_run_eval_edits)


def _corpus(command: argparse.ArgumentParser) -> None:
    command.add_argument("corpus", type=Path, help="a folder that `train corpus` wrote; its validation part is used")
    command.add_argument("--language", choices=LANGUAGES, default="python", help="of the files (default: python)")
    options.add(command, seed=False)


def _run_eval_edits(args: argparse.Namespace) -> object:
    from engine.evaluation import edits

    return edits.evaluate(args.histories, args.commits, args.shuffled)


def _run_eval_lines(args: argparse.Namespace) -> object:
    from engine.evaluation import lines, workspace

    evaluate = workspace.compare if args.workspace else lines.evaluate
    return evaluate(options.chosen(args).load(), args.corpus / "validation", args.places, language=args.language)


def _run_eval_typing(args: argparse.Namespace) -> Report:
    from engine.evaluation import savings
    from engine.evaluation.places import workspaces

    ways = savings.ways(_options(args.options), args.baselines, args.without, args.workspace)
    places = workspaces(args.corpus / "validation", args.lines, args.seed, tuple(args.packages), args.language)
    return savings.report(args.model, args.seed, savings.run(options.chosen(args), places, ways))


def _options(text: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise EngineError(f"--options takes a JSON object: {error}") from None


def _run_eval_humaneval(args: argparse.Namespace) -> object:
    from engine.evaluation import humaneval

    engine = options.chosen(args).load()
    return [humaneval.evaluate(engine, args.data, split, args.limit, args.seed, args.copies) for split in args.split]


def _models(command: argparse.ArgumentParser) -> None:
    def run(args: argparse.Namespace) -> None:
        from engine.models import registry

        print(registry.supported())

    command.set_defaults(run=run, extra="gpu")


def _serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=8012, help="(default: 8012)")
    options.add(command)
    command.add_argument("--workers", type=int, help="processes that fill (default: one a core, or one on a GPU)")
    command.add_argument("--queue", type=int, default=64, help="requests that may wait; more are refused (default: 64)")
    command.add_argument("--keys", type=Path, help="a file of SHA-256 hashes of keys, each with a user's name")
    command.add_argument("--no-keys", action="store_true", help="let anybody who reaches the server use it")
    command.add_argument(
        "--ray", action="store_true", help="on the Ray cluster that is there, or on one of this machine"
    )
    command.add_argument("--replicas", type=int, nargs="+", default=[1], help="with --ray: the least, and the most")
    command.add_argument(
        "--gpus",
        type=float,
        help="with --ray: of a replica, as 0.5 (default: as --device says; "
        "auto is one for a public checkpoint where the cluster has any)",
    )

    def run(args: argparse.Namespace) -> None:
        logging.basicConfig(format="inpaint: %(message)s")
        logging.getLogger("engine").setLevel(logging.INFO)
        if args.ray:
            args.extra = "ray"
            from engine.serving.cluster import run

            choice = options.chosen(args)
            run(args.host, args.port, choice, args.replicas, args.gpus, args.queue, args.keys, args.no_keys)
            return
        from engine.serving.serve import serve

        serve(args.host, args.port, options.chosen(args), args.workers, args.queue, args.keys, args.no_keys)

    command.set_defaults(run=run, extra="serve")


def _bench(command: argparse.ArgumentParser) -> None:
    whats = (
        "keys: steady typing on the engine (default); lsp: what a user waits for; serve: a team; "
        "index: a large workspace. "
        "Nothing of these, but --device: what a public model costs on it, against its roofline"
    )
    command.add_argument("what", nargs="?", choices=["keys", "lsp", "serve", "index"], help=whats)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add(command, device=None)
    command.add_argument("--file", type=Path, help="the file that is typed (default: one of this package)")
    command.add_argument("--typists", type=int, nargs="+", default=[1, 10, 50], help="of `serve` (default: 1 10 50)")
    command.add_argument("--seconds", type=float, default=20, help="of `serve`, for each number (default: 20)")
    command.add_argument("--files", type=int, default=10_000, help="of `index`, of 10 kB each (default: 10000)")
    command.add_argument("--url", help="of a server that `serve` asks, instead of starting one")
    command.add_argument("--workers", type=int, help="of the server that `serve` starts")
    command.set_defaults(run=_run_bench, extra="gpu")


def _run_bench(args: argparse.Namespace) -> object:
    from engine.evaluation import indexing, latency, serving, team

    file, choice = args.file or latency.SAMPLE, options.chosen(args)
    if args.what == "lsp":
        return serving.measure(choice)
    if args.what == "index":
        return indexing.measure(choice, args.files)
    if args.what == "serve":
        workers = [] if args.workers is None else ["--workers", str(args.workers)]
        return team.report(team.measured(args.url, [*choice.arguments(), *workers], file, args.typists, args.seconds))
    text = latency.read(file)
    if args.what is None and args.device is not None:
        from engine.evaluation import device

        return device.measure(choice, text)
    return latency.measure(choice.load(), text)


def _train(command: argparse.ArgumentParser) -> None:
    steps = command.add_subparsers(required=True, metavar="STEP")

    corpus = steps.add_parser("corpus", help="download packages, check licences, filter, deduplicate")
    corpus.add_argument("--out", type=Path, required=True)
    corpus.add_argument("--evaluation", type=Path, help="folder of *.jsonl.gz problems to keep out")
    corpus.add_argument("--packages", type=Path, help="list of packages (default: the repository's)")
    corpus.add_argument("--wheels", type=Path, help="where downloads are kept (default: OUT/wheels)")
    corpus.set_defaults(run=_run_corpus)

    recipe = steps.add_parser("recipe", help="write what `engine get` makes a model of")
    recipe.add_argument("name", help="of the model")
    recipe.add_argument("--checkpoint", type=Path, required=True, help="the GGUF that it grows from")
    recipe.add_argument("--corpus", type=Path, required=True, help="tokens are counted in it")
    recipe.add_argument("--out", type=Path, required=True, help="engine/weights/NAME")
    recipe.add_argument("--vocab", type=int, default=24_576)
    recipe.set_defaults(run=_run_recipe)

    run = steps.add_parser("run", help="train, or go on where it stopped")
    run.add_argument("--corpus", type=Path, required=True)
    run.add_argument("--tokenizer", type=Path, required=True)
    run.add_argument("--state", type=Path, required=True, help="folder of the resumable state, log and plot")
    run.add_argument("--config", type=Path, required=True, help="JSON of what differs from TrainConfig's defaults")
    run.add_argument("--base", type=Path, required=True, help="the weights to start from: a model.safetensors")
    run.add_argument("--steps", type=int, help="stop after so many steps in all")
    run.set_defaults(run=_run_training)

    drafter = steps.add_parser("drafter", help="train what drafts beside a model, or go on where it stopped")
    drafter.add_argument("--model", default="small", help="a shipped or fetched model, or a folder (default: small)")
    drafter.add_argument("--corpus", type=Path, required=True)
    drafter.add_argument("--state", type=Path, required=True, help="folder of features, of the resumable state and log")
    drafter.add_argument("--out", type=Path, required=True, help="the folder to write the drafter to: the model's")
    drafter.add_argument("--config", type=Path, help="JSON of what differs from DraftTraining's defaults")
    drafter.set_defaults(run=_run_drafter)

    export = steps.add_parser("export", help="write the weights that the engine loads")
    export.add_argument("--state", type=Path, required=True)
    export.add_argument("--tokenizer", type=Path, required=True)
    export.add_argument("--corpus", type=Path, required=True, help="for the model card's list of packages")
    export.add_argument("--out", type=Path, required=True)
    export.add_argument("--bits", type=int, choices=[4, 5, 6, 8], default=8, help="of the weights as stored")
    export.set_defaults(run=_run_export)

    workspace = steps.add_parser("workspace", help="tune a model to the files of a workspace")
    workspace.add_argument("folders", type=Path, nargs="+", help="of the workspace")
    workspace.add_argument("--out", type=Path, required=True, help="the folder to name as the model")
    workspace.add_argument("--model", default="", help="a shipped model, or a folder (default: the best shipped one)")
    workspace.add_argument("--tokens", type=int, help="to train on (default: once over the files, 50000 to 400000)")
    workspace.set_defaults(run=_run_workspace)

    copies = steps.add_parser("copy-weights", help="learn how far copies are believed")
    copies.add_argument(
        "packages", type=Path, nargs="+", help="folders of installed packages, none that is reported on"
    )
    copies.add_argument("--places", type=int, default=170, help="cursors in each (default: 170)")
    copies.add_argument("--model", default="small", help="a shipped model (default: small)")
    copies.add_argument("--out", type=Path, required=True, help="the copy_weights.json to write")
    copies.set_defaults(run=_run_copy_weights)

    plot = steps.add_parser("plot", help="plot the losses of a state's log")
    plot.add_argument("--state", type=Path, required=True)
    plot.set_defaults(run=_run_plot)


def _run_corpus(args: argparse.Namespace) -> None:
    from engine.training import corpus

    try:
        corpus.build(args.out, args.packages or corpus.PACKAGES, args.evaluation, args.wheels)
    except (OSError, ValueError) as error:
        raise EngineError(f"the corpus cannot be built: {error}") from None


def _run_recipe(args: argparse.Namespace) -> None:
    from engine.training import recipe

    recipe.run(args.name, args.checkpoint, args.corpus, args.out, args.vocab)


def _run_training(args: argparse.Namespace) -> None:
    from engine.training import train

    config = train.read_config(args.config, train.TrainConfig)
    config = msgspec.structs.replace(config, base=str(args.base.resolve()))
    train.run(config, train.DataPaths(args.corpus, args.tokenizer), args.state, args.steps)


def _run_drafter(args: argparse.Namespace) -> None:
    from engine.training import draft, train

    config = train.read_config(args.config, draft.DraftTraining) if args.config else draft.DraftTraining()
    draft.run(args.model, args.corpus, args.state, args.out, config)


def _run_export(args: argparse.Namespace) -> None:
    from engine.training import export

    export.run(args.state, args.tokenizer, args.corpus, args.out, args.bits)


def _run_workspace(args: argparse.Namespace) -> None:
    from engine.training import workspace

    workspace.run(args.folders, args.out, args.model, args.tokens)


def _run_copy_weights(args: argparse.Namespace) -> None:
    from engine.training import copy_weights

    copy_weights.run(args.model, args.packages, args.places, args.out)


def _run_plot(args: argparse.Namespace) -> None:
    from engine.training.plot import plot_losses

    print(plot_losses(args.state))


if __name__ == "__main__":
    sys.exit(main())
