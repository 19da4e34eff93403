"""The samplers' options, from where they are said to what they change."""

from __future__ import annotations

import io
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import tiny_checkpoints as tiny
import torch
from test_parity import NoSpelling

from engine import Engine, public
from engine.__main__ import main
from engine.backends.batch_runner import BatchRunner
from engine.backends.sequence import Sequence
from engine.contract import EngineError, Fill, FillRequest, Refusal, Sampling, TokenSpan
from engine.decoding.canvas import Canvas
from engine.decoding.denoise import Task, in_blocks
from engine.decoding.limits import Limits
from engine.decoding.runner import CanvasPredictions, Gap
from engine.decoding.unmasking import Policy, above, chosen
from engine.models import checkpoint

REQUEST = FillRequest(prefix="def add(a, b):\n", suffix="\n\nclass Point:\n", max_tokens=24, steps=6, copies=False)


def loaded(family: str, at: Path) -> checkpoint.Checkpoint:
    folder = str(tiny.FAMILIES[family](at)[0])
    return checkpoint.load(folder, checkpoint.read_config(folder), torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def llada(tmp_path_factory: pytest.TempPathFactory) -> public.Public:
    read = loaded("llada", tmp_path_factory.mktemp("llada"))
    return public.make_backend(read, public.make_runner(read))


def fill(backend: public.Public, **options: Any) -> Fill:
    return backend.fill(msgspec.structs.replace(REQUEST, sampling=Sampling(**options)), threading.Event())


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 2.0, "top_k": 3, "top_p": 0.9},
        {"alg": "origin"},
        {"alg": "random"},
        {"alg": "entropy", "alg_temp": 1.0},
        {"alg": "maskgit_plus"},
        {"alg": "p2"},
        {"cfg_scale": 2.0},
        {"block_length": 4, "alg": "low_confidence"},
    ],
    ids=str,
)
def test_an_option_changes_what_is_written_and_equal_requests_get_equal_fills(
    options: dict[str, Any], llada: public.Public
) -> None:
    changed = fill(llada, **options)
    assert changed.pieces != fill(llada).pieces
    assert changed.pieces == fill(llada, **options).pieces
    assert 0 < changed.passes <= REQUEST.steps + 3


def test_a_seed_draws_other_tokens(llada: public.Public) -> None:
    assert len({fill(llada, temperature=1.5, seed=seed).pieces for seed in range(4)}) > 1


def test_a_threshold_of_nothing_reveals_all_at_once(llada: public.Public) -> None:
    assert fill(llada, alg="confidence_threshold", threshold=0.0).passes < fill(llada).passes
    assert fill(llada, alg="confidence_threshold", threshold=1.0).passes > REQUEST.steps


def test_the_end_is_revealed_last_or_never_where_llada_is_told_so(llada: public.Public) -> None:
    end = llada.vocabulary.eos
    assert end is not None
    predictions = CanvasPredictions(
        [end, 50, 51], [0.9, 0.5, 0.7], [0.0] * 3, [0.0] * 3, sampling_probabilities=[0.9, 0.5, 0.7], margins=[0.0] * 3
    )
    first = {}
    for last in (None, True):
        options = Sampling(alg="low_confidence", confidence_eos_eot_inf=last)
        usual = Policy(rule=above(), passes=3)
        policy = chosen(options, usual, llada.vocabulary.ends, one_each=False)
        first[last] = [policy.rule(predictions, [0, 1, 2], count) for count in (1, 2, 3)]
    assert first == {None: [[0], [0, 2], [0, 2, 1]], True: [[2], [2, 1], [2, 1, 0]]}
    assert end in llada._never(Sampling(logits_eos_inf=True))
    assert end not in llada._never(Sampling())


def test_suppressed_tokens_are_not_written(llada: public.Public) -> None:
    """At a temperature of twenty, all are likely."""
    request = FillRequest(prefix="x = ", max_tokens=12, steps=12, copies=False)
    tokens = range(40, 46)
    for seed in range(3):
        options = Sampling(temperature=20.0, seed=seed, suppress_tokens=tuple(tokens), logits_eos_inf=True)
        text = llada.fill(msgspec.structs.replace(request, sampling=options), threading.Event()).text
        assert not {llada.vocabulary.decode([token]) for token in tokens} & set(text)
    with pytest.raises(EngineError, match="suppress_tokens has 100000"):
        fill(llada, suppress_tokens=(100000,))


def test_exact_is_the_default_and_fast_takes_what_is_around_the_canvas_as_it_was(tmp_path: Path) -> None:
    read = loaded("dream", tmp_path)
    rows: list[int] = []
    passes = public.make_runner(read)
    run = passes._passed
    passes._passed = lambda asked, kind: rows.append(kind.rows) or run(asked, kind)  # type: ignore[method-assign, func-returns-value]
    backend = public.make_backend(read, passes)
    request = msgspec.structs.replace(REQUEST, prefix=tiny.TEXT, max_lines=1)
    texts = {}
    for cache in (None, "exact", "fast"):
        rows.clear()
        options = Sampling(cache=cache)  # type: ignore[arg-type]
        texts[cache] = backend.fill(msgspec.structs.replace(request, sampling=options), threading.Event()).pieces
        assert (min(rows) < 128) == (cache == "fast")
    assert texts[None] == texts["exact"]


def test_guidance_without_a_second_sequence_is_refused(tmp_path: Path) -> None:
    read = loaded("llada", tmp_path)
    backend = public.make_backend(read, BatchRunner(read.model, False, slots=1, capacity=512))
    with pytest.raises(EngineError, match="cfg_scale needs a second sequence"):
        fill(backend, cfg_scale=1.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, public.Public]:
    read = {name: loaded(name, tmp_path_factory.mktemp(name)) for name in ("llada", "dreamon", "sdar")}
    return {name: public.make_backend(each, public.make_runner(each)) for name, each in read.items()}


@pytest.mark.parametrize(
    ("model", "drafts", "options", "refused"),
    [
        ("llada", True, {"left_pad": True}, "left_pad"),
        ("sdar", True, {"left_pad": True}, None),
        ("llada", True, {"left_pad": False}, None),
        ("llada", True, {"pad_eos_to_right": True}, "pad_eos_to_right"),
        ("dreamon", True, {"pad_eos_to_right": True}, None),
        ("sdar", True, {"cache": "fast"}, "cache"),
        ("sdar", True, {"cache": "exact"}, None),
        ("llada", True, {"cache": "fast"}, None),
        ("llada", True, {"alg_temp": 0.5}, "alg_temp"),
        ("llada", True, {"alg": "origin", "alg_temp": 0.5}, "alg_temp"),
        ("llada", True, {"alg": "random", "alg_temp": 0.5}, "alg_temp"),
        ("llada", True, {"alg": "entropy", "alg_temp": 0.5}, None),
        ("llada", True, {"alg": "entropy", "alg_temp": 0.0}, None),
        ("llada", True, {"confidence_eos_eot_inf": True}, "confidence_eos_eot_inf"),
        ("llada", True, {"alg": "origin", "confidence_eos_eot_inf": True}, "confidence_eos_eot_inf"),
        ("llada", True, {"alg": "random", "confidence_eos_eot_inf": True}, None),
        ("llada", True, {"alg": "entropy", "threshold": 0.5}, "threshold"),
        ("llada", True, {"alg": "confidence_threshold", "threshold": 0.5}, None),
        ("llada", True, {"threshold": 0.5}, None),
        ("llada", False, {"alg": "entropy"}, "alg"),
        ("llada", False, {"threshold": 0.5}, "threshold"),
        ("llada", False, {"temperature": 1.0}, None),
    ],
)
def test_an_option_without_effect_is_refused(
    model: str, drafts: bool, options: dict[str, Any], refused: str | None, models: dict[str, public.Public]
) -> None:
    request = FillRequest(
        prefix="x = ", suffix="\n", max_tokens=4, steps=2, drafts=drafts, sampling=Sampling(**options)
    )
    if refused is None:
        models[model].fill(request, threading.Event())
    else:
        with pytest.raises(Refusal, match=f"^{refused} has no effect here, for it needs "):
            models[model].fill(request, threading.Event())


def test_options_of_the_checkpoint_are_not_refused_and_count_for_the_requests(tmp_path: Path) -> None:
    usual = Sampling(alg="entropy", threshold=0.5, left_pad=True, cache="exact")
    read = msgspec.structs.replace(loaded("llada", tmp_path), sampling=usual)
    backend = public.make_backend(read, public.make_runner(read))
    assert fill(backend).pieces != fill(backend, alg_temp=1.0).pieces


@pytest.mark.parametrize(
    ("usual", "own", "together"),
    [
        ({"threshold": 0.5}, {"alg": "entropy"}, {"alg": "entropy"}),
        ({"alg": "entropy", "alg_temp": 1.0}, {"threshold": 0.0}, {"threshold": 0.0}),
        ({"alg": "entropy", "alg_temp": 1.0}, {"alg": "low_confidence"}, {"alg": "low_confidence", "alg_temp": 1.0}),
        ({"alg": "confidence_threshold"}, {"threshold": 0.0}, {"alg": "confidence_threshold", "threshold": 0.0}),
    ],
    ids=str,
)
def test_options_of_the_start_give_way_to_those_of_a_request(
    usual: dict[str, Any], own: dict[str, Any], together: dict[str, Any], tmp_path: Path
) -> None:
    folder = str(tiny.FAMILIES["llada"](tmp_path)[0])
    plain, started = Engine.load(folder, "cpu"), Engine.load(folder, "cpu", sampling=Sampling(**usual))

    def pieces(engine: Engine, options: dict[str, Any]) -> tuple[TokenSpan, ...]:
        asked = msgspec.structs.replace(REQUEST, sampling=Sampling(**options))
        return engine.fill(asked, threading.Event()).pieces

    assert pieces(started, own) == pieces(plain, together) != pieces(started, {})
    assert started.fill(msgspec.structs.replace(REQUEST, drafts=False), threading.Event()).tokens


def test_options_of_the_start_without_effect_are_refused_at_the_start(tmp_path: Path) -> None:
    folder = str(tiny.FAMILIES["llada"](tmp_path)[0])
    for options in ({"alg": "entropy", "threshold": 0.5}, {"left_pad": True}):
        with pytest.raises(Refusal, match="has no effect here"):
            Engine.load(folder, "cpu", sampling=Sampling(**options))


def test_a_block_of_fast_dllm_begins_with_what_the_row_before_it_says(tmp_path: Path) -> None:
    """Held to a plain loop over whole passes, without caches."""
    folder, reference = tiny.FAMILIES["fast-dllm-v2"](tmp_path)
    read = checkpoint.load(str(folder), checkpoint.read_config(str(folder)), torch.device("cpu"), torch.float32)
    assert read.plan.infill.lead
    prompt, mask, block = [5, 6, 7, 8, 9, 40, 41, 42, 43, 44, 45], tiny.MASK, 8

    def predicted(tokens: list[int]) -> torch.Tensor:
        found = reference(torch.tensor([tokens]))[0]
        found[:, mask] = -torch.inf
        return found.softmax(-1)

    def plain(lead: bool) -> list[int]:
        tokens = list(prompt)
        while len(tokens) < 32:
            if lead and len(tokens) % block == 0:
                tokens.append(int(predicted(tokens)[-1].argmax()))
            tokens += [mask] * (block - len(tokens) % block)
            while mask in tokens:
                best = predicted(tokens)[:-1].max(-1)
                rows = [row for row, token in enumerate(tokens) if token == mask]
                sure = [row for row in rows if best.values[row - 1] > 0.5]
                for row in sure or [max(rows, key=lambda row: float(best.values[row - 1]))]:
                    tokens[row] = int(best.indices[row - 1])
        return tokens[len(prompt) :]

    def ours(lead: bool) -> list[int]:
        task = Task(Gap(prompt, []), mask, lambda canvas: None, lambda canvas: [mask], lambda canvas, done=None: None)
        limits = Limits(FillRequest(prefix="", max_tokens=21), NoSpelling(), threading.Event())
        policy = Policy(rule=above(0.5), passes=1000, lead=lead)
        canvas: Canvas = in_blocks(Sequence(BatchRunner(read.model, True, capacity=64)), task, block, policy, limits)
        return canvas.tokens

    assert ours(True) == plain(True)
    assert ours(False) == plain(False) != plain(True)


def test_left_padding_begins_a_block_at_the_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = loaded("tiny-a2d-blocks", tmp_path)
    backend, block = public.make_backend(read, public.make_runner(read)), read.plan.shape.block
    first: list[int] = []
    ask = Sequence.ask
    monkeypatch.setattr(Sequence, "ask", lambda self, asked: first.append(len(asked.canvas)) or ask(self, asked))
    for typed in ("x = 1", "x = 12", "x = 12 "):
        for left_pad in (True, None):
            first.clear()
            request = FillRequest(prefix=typed, suffix="\n", max_tokens=12, copies=False)
            options = Sampling(left_pad=left_pad)
            backend.fill(msgspec.structs.replace(request, sampling=options), threading.Event())
            window = len(backend.vocabulary.gap(request, 400).before)
            assert first[0] == (block if left_pad else block - window % block)


def test_generation_config_counts_where_it_is_a_diffusion_samplers(tmp_path: Path) -> None:
    folder = tiny.FAMILIES["dream"](tmp_path)[0]

    def read(**options: object) -> Sampling:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, **options}))
        config = checkpoint.read_config(str(folder))
        return checkpoint.load(str(folder), config, torch.device("cpu"), torch.float32).sampling

    assert read(alg="entropy", alg_temp=0.0, top_p=0.95) == Sampling(alg="entropy", alg_temp=0.0, top_p=0.95)
    assert read(remasking="low_confidence") == Sampling(alg="low_confidence")  # LLaDA's name
    assert read(remasking="random", alg="p2") == Sampling(alg="p2")
    assert read(do_sample=True, temperature=0.7, top_p=0.8, top_k=20) == Sampling()
    with pytest.raises(EngineError, match=r"generation_config.json of .* has an option that is none"):
        read(alg="best")


def test_the_command_line_and_a_line_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder = tiny.FAMILIES["llada"](tmp_path)[0]
    line = {"id": 1, "prefix": "def add(a, b):\n", "suffix": "\n"}
    lines = [line, {**line, "sampling": {"temperature": 0}}, {**line, "sampling": {"alg": "best"}}]
    options = ["--device", "cpu", "--steps", "4", "--temperature", "2", "--suppress-tokens", "40,41"]
    heard: list[Sampling] = []
    run = Sequence.begin

    def listening(self: Sequence, sampling: Sampling) -> None:
        heard.append(sampling)
        run(self, sampling)

    monkeypatch.setattr(Sequence, "begin", listening)
    asked, answered = io.BytesIO("\n".join(map(json.dumps, lines)).encode()), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=asked))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=answered))
    assert main(["fill", "--jsonl", "--model", str(folder), *options]) == 0
    *_, wrong = (json.loads(each) for each in answered.getvalue().splitlines())
    said = Sampling(temperature=2.0, suppress_tokens=(40, 41), cache="exact")
    assert set(heard[-8:]) == {said, msgspec.structs.replace(said, temperature=0.0)}  # four lengths each
    assert "best" in wrong["error"]
    assert main(["fill", "--jsonl", "--model", str(folder), "--top-p", "7"]) == 2
    assert "top_p" in capsys.readouterr().err
