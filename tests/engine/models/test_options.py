"""Each option of a request does the same with every kind of model, or is refused with a sentence."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import tokenizers
import torch
from test_torch_backend import Writer, over

from engine import Engine, EngineError, Fill, FillRequest
from engine.contract import TokenSpan, Watch
from engine.decoding.runner import CanvasPredictions, ForwardInput, Gap
from engine.models.family import InfillFormat
from engine.models.vocabulary import Vocabulary
from engine.public import GapTokenizer

KINDS = ["small", "dreamon", "llada", "sdar", "tiny-a2d-blocks"]
LINE = "        self.height = measured_height(width, depth)"
HEAD, TAIL = LINE[:40], LINE[40:]
GAP = FillRequest(prefix=f"{LINE}\n        x = 1\n{HEAD}", suffix="\n", max_lines=1)


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    name = request.param
    return Engine.load(name if name == "small" else str(tiny.FAMILIES[name](tmp_path_factory.mktemp(name))[0]), "cpu")


def fill(engine: Engine, prefix: str = GAP.prefix, suffix: str = "\n", **options: Any) -> Fill:
    return engine.fill(FillRequest(prefix=prefix, suffix=suffix, **options), threading.Event())


def test_a_long_match_is_copied(engine: Engine) -> None:
    assert fill(engine, max_lines=1).text.startswith(TAIL)
    copied = fill(engine, max_lines=1, max_tokens=6)
    assert TAIL.startswith(copied.text) and copied.text
    assert fill(engine, max_lines=1, copies=False).text != copied.text


def test_other_texts_are_copied_from(engine: Engine) -> None:
    prefix = f"x = 1\n{HEAD}"
    for line_end in ("\n", "\r\n"):
        made = fill(engine, prefix, max_lines=1, related=("y = 2\n", f"{line_end}{LINE}{line_end}"))
        assert made.text.startswith(TAIL)
    assert not fill(engine, prefix, max_lines=1).text.startswith(TAIL)


@pytest.mark.parametrize("copies", [True, False])
def test_another_fill_begins_otherwise(engine: Engine, copies: bool) -> None:
    for prefix in (GAP.prefix.removesuffix("wi"), f"{GAP.prefix} + "):
        first = fill(engine, prefix, max_lines=1, copies=copies)
        other = fill(engine, prefix, max_lines=1, copies=copies, others=(first.text,))
        assert first.text or not copies  # of random weights, little can be asked for
        assert not first.text or first.text[:3] != other.text[:3]


def test_without_drafts_a_pass_brings_one_token(engine: Engine) -> None:
    for copies in (True, False):
        made = fill(engine, max_tokens=8, drafts=False, copies=copies)
        assert made.passes >= made.tokens > 0


def test_what_nobody_believes_in_ends_early(engine: Engine) -> None:
    doubted = fill(engine, "import os\n\nq", max_tokens=24, min_confidence=0.99, copies=False)
    assert not doubted.complete
    assert doubted.confidence < 0.99
    assert doubted.tokens < fill(engine, "import os\n\nq", max_tokens=24, copies=False).tokens


def test_what_is_trusted_costs_fewer_passes(engine: Engine) -> None:
    passes = {trust: fill(engine, "import os\n\nq", max_tokens=12, trust=trust).passes for trust in (0.0, 1.0)}
    assert passes[0.0] <= passes[1.0]


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_no_more_lines_than_asked_for(engine: Engine, lines: int) -> None:
    text = f"{LINE}\n        y = 2\n        z = 3\n" * 2 + HEAD
    assert fill(engine, text, max_lines=lines, max_tokens=48).text.count("\n") < lines


def test_confidence_is_that_of_the_pieces(engine: Engine) -> None:
    made = fill(engine, max_tokens=10)
    together = 1.0
    for piece in made.pieces:
        together *= piece.probability
    assert made.confidence == pytest.approx(together**0.5, abs=1e-6) or not made.text
    ends = [piece.end for piece in made.pieces]
    assert ends == sorted(ends)
    assert ends[-1] == len(made.text)


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_lines", 0), ("max_tokens", 0), ("steps", -1), ("min_confidence", 1.5), ("trust", -0.1)],
)
def test_a_senseless_option_is_one_sentence(engine: Engine, option: str, value: float) -> None:
    with pytest.raises(EngineError, match=f"{option} is {value}: give"):
        fill(engine, **{option: value})


class Unsure(Writer):
    """Writes what it is told, and from the second line on does not believe it."""

    def _predict(self, question: ForwardInput) -> CanvasPredictions:
        tokens = self.vocabulary.encode(self.text(question))
        first = len(self.vocabulary.encode(self.text(question).partition("\n")[0])) + 1
        logits = torch.zeros(len(question.canvas), tiny.VOCAB)
        for row in range(len(question.canvas)):
            logits[row, tokens[row] if row < len(tokens) else tiny.EOS] = 20.0 if row < first else 4.0
        return tiny.guess_of(logits, question)


@pytest.mark.parametrize(("least", "expected"), [(0.0, "a = 1\nb = 2\nc = 3"), (0.5, "a = 1")])
def test_the_lines_before_the_doubt_stay(least: float, expected: str, tmp_path: Path) -> None:
    folder, _ = tiny.FAMILIES["dreamon"](tmp_path)
    vocabulary = Vocabulary.load(folder, InfillFormat(mask=tiny.MASK, expand=tiny.EXPAND, bos=True))
    engine = Engine(over(Unsure(vocabulary, lambda question: "a = 1\nb = 2\nc = 3")))
    made = fill(engine, "x\n", min_confidence=least, copies=False)  # a copy would be surer than the second line
    assert made.text == expected
    assert (made.confidence >= 0.5, made.complete) == ((True, False) if least else (False, True))


def sentencepiece() -> tokenizers.Tokenizer:
    """Blanks as letters and one before a text, as Llama 2 has it."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer, bpe.decoder = tokenizers.pre_tokenizers.Metaspace(), tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=200, special_tokens=["<mask>"], show_progress=False)
    bpe.train_from_iterator([tiny.TEXT], trainer)
    return bpe


@pytest.mark.parametrize("bpe", [sentencepiece(), tokenizers.Tokenizer.from_str(tiny.tokenizer_json(True))])
@pytest.mark.parametrize("text", ["x", " x", "    return a", "return a", ")", "a, b"])
def test_what_is_copied_is_spelled_as_it_goes_on(bpe: tokenizers.Tokenizer, text: str) -> None:
    vocabulary = Vocabulary(bpe, {}, InfillFormat(mask=0))
    middle = GapTokenizer(vocabulary, Gap(vocabulary.encode("def add("), []))
    assert middle.decode(middle.encode(text)) == text


class Fixed:
    """A backend that sees no carriage return and makes none."""

    reach = 100

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill:
        assert "\r" not in request.prefix + request.suffix + "".join(request.related)
        pieces = (TokenSpan(1, 0.5), TokenSpan(2, 0.5), TokenSpan(3, 0.5))
        return Fill(
            text="a\nb", confidence=0.5, passes=1, tokens=3, encoded=0, reused=0, encode_ms=0.0, decode_ms=0.0,
            complete=False, pieces=pieces,
        )  # fmt: skip


def test_line_ends_are_those_of_the_text() -> None:
    assert fill(Engine(Fixed()), "x\n", related=("y\r\nz",)).text == "a\nb"
    for prefix, suffix in (("x\r\n", ""), ("x", "\r\ny")):
        made = fill(Engine(Fixed()), prefix, suffix)
        assert made.text == "a\r\nb"
        assert [piece.end for piece in made.pieces] == [1, 3, 4]
