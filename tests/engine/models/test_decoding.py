"""Rules, lengths, blocks and limits on scripted predicted; caches on tiny checkpoints."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import tiny_checkpoints as tiny
import torch
from transformers import Qwen3ForCausalLM

from engine.backends.batch_runner import BatchRunner
from engine.backends.sequence import Sequence
from engine.contract import Cancelled, FillRequest, Sampling
from engine.decoding import length, presets
from engine.decoding.canvas import Canvas
from engine.decoding.denoise import Task, in_blocks, unmask
from engine.decoding.limits import Limits
from engine.decoding.runner import CanvasPredictions, ForwardInput, Gap
from engine.decoding.unmasking import Policy, above, left_to_right, within
from engine.models import checkpoint
from engine.retrieval.copying import Copier

MASK, DELETE, EXPAND = 0, 1, 2
VOCAB = 20
GAP = Gap([9], [])
EVERY_PASS = Policy(rule=above(0.9), passes=100)


class Scripted:
    """A model that says of a canvas, row by row, a token and how sure it is."""

    def __init__(self, says: Callable[[ForwardInput], list[tuple[int, float]]]) -> None:
        self.says = says
        self.seen: list[list[int]] = []

    def predict(self, questions: list[ForwardInput]) -> list[CanvasPredictions]:
        return [self._predict(question) for question in questions]

    def _predict(self, question: ForwardInput) -> CanvasPredictions:
        self.seen.append(list(question.canvas))
        logits = torch.zeros(len(question.canvas), VOCAB)
        for row, (token, probability) in enumerate(self.says(question)):
            logits[row] = math.log((1 - probability) / (VOCAB - 1))
            logits[row, token] = math.log(probability)
        return tiny.guess_of(logits, question)


def free(canvas: Canvas, done: list[int] | None = None) -> None:
    """No row is constrained."""


def task(
    settle: Callable[[Canvas], None] = lambda canvas: None,
    gap: Gap = GAP,
    suppressed: tuple[int, ...] = (MASK,),
) -> Task:
    return Task(gap, MASK, settle, lambda canvas: list(suppressed), free)


class Letters:
    """A token is a letter."""

    end, ends = DELETE, frozenset({DELETE})

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


def limits(tokens: int = 64, deadline_ms: float | None = None, cancel: threading.Event | None = None) -> Limits:
    request = FillRequest(prefix="", max_tokens=tokens, deadline_ms=deadline_ms)
    return Limits(request, Letters(), cancel or threading.Event())


def predictions(probabilities: list[float], entropies: list[float] | None = None) -> CanvasPredictions:
    nothing = [0.0] * len(probabilities)
    return CanvasPredictions([5] * len(nothing), probabilities, entropies or nothing, nothing, probabilities)


def test_confidence_keeps_what_is_above_the_threshold_and_the_surest_to_make_the_quota() -> None:
    asked = predictions([0.95, 0.2, 0.91, 0.5])
    assert sorted(above(0.9)(asked, [0, 1, 2, 3], 1)) == [0, 2]
    assert above(0.9)(asked, [1, 3], 1) == [3]
    assert sorted(above(0.9)(asked, [0, 1, 2, 3], 3)) == [0, 2, 3]


@pytest.mark.parametrize("bound", [0.0, 0.1, 0.5, 9.0])
def test_entropy_keeps_rows_while_their_sum_less_the_largest_is_within_the_bound(bound: float) -> None:
    entropies = [0.3, 0.02, 1.2, 0.05, 0.04]
    kept = within(bound)(predictions([0.5] * 5, entropies), [0, 1, 2, 3, 4], 1)
    ranked = sorted(entropies)
    most = max(n for n in range(1, 6) if sum(ranked[:n]) - ranked[n - 1] <= bound)
    assert sorted(entropies[row] for row in kept) == ranked[:most]


def test_the_quota_finishes_a_canvas_within_the_passes() -> None:
    model = Scripted(lambda asked: [(5, 0.3)] * len(asked.canvas))
    canvas, used = Canvas.masked(MASK, 10), limits()
    unmask(model, task(), canvas, Policy(rule=above(), passes=4), used)
    assert canvas.tokens == [5] * 10
    assert used.passes == 4


def test_a_span_reveals_a_long_block_from_the_left() -> None:
    model = Scripted(lambda asked: [(5, 0.99)] * len(asked.canvas))
    unmask(model, task(), Canvas.masked(MASK, 8), Policy(rule=above(), passes=9, span=4), limits())
    assert model.seen[1] == [5] * 4 + [MASK] * 4


def test_cancelling_is_looked_at_before_each_pass() -> None:
    cancel = threading.Event()

    def says(asked: ForwardInput) -> list[tuple[int, float]]:
        cancel.set()
        return [(5, 0.1)] * len(asked.canvas)

    model = Scripted(says)
    with pytest.raises(Cancelled):
        unmask(model, task(), Canvas.masked(MASK, 4), EVERY_PASS, limits(cancel=cancel))
    assert len(model.seen) == 1


def test_a_passed_deadline_ends_decoding_with_what_is_revealed() -> None:
    canvas = Canvas.masked(MASK, 4)
    unmask(Scripted(lambda asked: [(5, 0.1)] * 4), task(), canvas, EVERY_PASS, limits(deadline_ms=0.0))
    assert canvas.written() == 0


def settled(tokens: list[int], most: int = 64, expansions: int = 0) -> Canvas:
    canvas = Canvas(list(tokens), [0.5] * len(tokens), MASK, expansions=expansions)
    length.resize(canvas, EXPAND, frozenset({DELETE}), most)
    assert len(canvas.tokens) == len(canvas.probabilities)
    return canvas


def test_expand_is_two_masks() -> None:
    assert settled([7, EXPAND, 8]).tokens == [7, MASK, MASK, 8]
    assert settled([EXPAND, MASK, EXPAND]).tokens == [MASK] * 5


def test_delete_takes_every_open_row_after_it_and_leaves_what_is_revealed() -> None:
    assert settled([MASK, 7, DELETE, MASK, 8, MASK]).tokens == [MASK, 7, 8]


def test_a_full_canvas_does_not_expand() -> None:
    assert settled([EXPAND, 7, EXPAND], most=4).tokens == [MASK, MASK, 7, MASK]
    assert settled([EXPAND, 7], expansions=64).tokens == [MASK, 7]


def test_a_deletion_makes_room_for_an_expansion() -> None:
    assert settled([DELETE, EXPAND], most=2).tokens == [MASK, MASK]


def test_a_canvas_finds_its_length_by_deleting_and_expanding() -> None:
    """The model wants four tokens: it deletes the end of a long canvas at once, and expands a short one."""
    target = [11, 12, 13, 14]

    def says(asked: ForwardInput) -> list[tuple[int, float]]:
        size = len(asked.canvas)
        if size > 4:
            return [(target[row], 0.6) if row < 4 else (DELETE, 0.95 - row / 100) for row in range(size)]
        return [(target[row], 0.6) if size == 4 else (EXPAND, 0.7 - row / 100) for row in range(size)]

    for size in (2, 4, 16):
        canvas, used = Canvas.masked(MASK, size), limits()
        one = Policy(rule=lambda asked, rows, quota: [max(rows, key=lambda row: asked.probabilities[row])], passes=64)
        settle: Callable[[Canvas], None] = lambda c: length.resize(c, EXPAND, frozenset({DELETE}), 64)  # noqa: E731
        unmask(Scripted(says), task(settle), canvas, one, used)
        assert canvas.tokens == target
        assert used.passes <= 7  # without broadcast, 16 rows take 16 passes


def test_a_model_that_expands_and_deletes_for_ever_ends() -> None:
    def says(asked: ForwardInput) -> list[tuple[int, float]]:
        grow = EXPAND not in asked.suppressed and len(asked.canvas) < 3
        return [(EXPAND if grow else DELETE if len(asked.canvas) > 1 else 7, 0.5)] * len(asked.canvas)

    def suppressed(canvas: Canvas) -> list[int]:
        return [MASK] if length.can_expand(canvas, len(canvas.tokens), 6) else [MASK, EXPAND]

    settle: Callable[[Canvas], None] = lambda c: length.resize(c, EXPAND, frozenset({DELETE}), 6)  # noqa: E731
    canvas, used = Canvas.masked(MASK, 2), limits()
    unmask(
        Scripted(says),
        Task(Gap([9], []), MASK, settle, suppressed, free),
        canvas,
        Policy(rule=left_to_right, passes=4),
        used,
    )
    assert canvas.open_rows() == []
    assert used.passes < 40


def test_the_length_probe_takes_the_length_that_the_model_is_surest_of() -> None:
    model = Scripted(lambda asked: [(5, 0.8 if len(asked.canvas) == 12 else 0.4)] * len(asked.canvas))
    used = limits(tokens=40)
    assert length.probe(model, task(), used) == 12
    assert [len(canvas) for canvas in model.seen] == [4, 12, 28, 40]
    assert used.passes == 1


@pytest.mark.parametrize(
    ("tokens", "lines", "best", "tried", "taken"),
    [
        (300, None, 300, [4, 12, 28, 64, 128, 256, 300], 300),
        (300, None, 128, [4, 12, 28, 64, 128, 256], 128),
        (300, None, 12, [4, 12, 28, 64], 12),
        (300, 1, 300, [4, 12, 28, 64], 64),
        (64, None, 300, [4, 12, 28, 64], 64),
    ],
)
def test_longer_lengths_are_tried_while_the_model_is_surer_and_the_request_allows_them(
    tokens: int, lines: int | None, best: int, tried: list[int], taken: int
) -> None:
    model = Scripted(lambda asked: [(5, 0.99 - abs(len(asked.canvas) - best) / 1000)] * len(asked.canvas))
    used = limits(tokens=tokens)
    used.request = msgspec.structs.replace(used.request, max_lines=lines)
    assert length.probe(model, task(), used) == taken
    assert [len(canvas) for canvas in model.seen] == tried


def test_blocks_lie_at_multiples_of_their_length_and_end_at_the_limit() -> None:
    model = Scripted(lambda asked: [(5, 0.99)] * len(asked.canvas))
    canvas = in_blocks(model, task(gap=Gap([9] * 6, [])), 4, EVERY_PASS, limits(tokens=5))
    assert [len(seen) for seen in model.seen] == [2, 4]
    assert canvas.tokens == [5] * 5
    model.seen.clear()
    in_blocks(model, task(gap=Gap([9] * 6, [], pad=2)), 4, EVERY_PASS, limits(tokens=5))
    assert [len(seen) for seen in model.seen] == [4, 4]


def test_a_block_ends_as_soon_as_all_before_the_end_is_revealed() -> None:
    """The end is surest and comes first; the rows before it are unmasked, those after it are not waited for."""

    def says(asked: ForwardInput) -> list[tuple[int, float]]:
        return [(DELETE, 0.99) if row == 2 else (5 + row, 0.6 - row / 100) for row in range(len(asked.canvas))]

    def settle(canvas: Canvas) -> None:
        if DELETE in canvas.tokens:
            canvas.cut(canvas.tokens.index(DELETE))
            canvas.ended = True

    model, used = Scripted(says), limits()
    policy = Policy(rule=above(0.9), passes=99)
    canvas = in_blocks(model, task(settle, gap=Gap([9] * 8, [])), 8, policy, used)
    assert canvas.tokens == [5, 6]
    assert canvas.ended
    assert used.passes == 3


def test_sampling_is_held_to_what_is_allowed_and_its_probabilities_are_the_models() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    question = ForwardInput([9], [1, 2], [], suppressed=[0], allowed=(0, [0, 1]))
    out = tiny.guess_of(logits, question)
    assert out.tokens == [1, 1]
    assert out.probabilities[0] == 1.0
    assert not out.agrees
    rest = logits[1, 1:].softmax(-1)
    assert out.probabilities[1] == pytest.approx(float(rest[0]))
    assert out.canvas_probabilities[1] == pytest.approx(float(rest[1]))
    assert out.entropies[1] == pytest.approx(float(-(rest * rest.log()).sum()), abs=1e-6)


def test_sampling_draws_from_the_nucleus_and_is_repeatable() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05, 1e-9]).log().repeat(400, 1)
    question = ForwardInput([9], [0] * 400, [], [4])

    def drawn(picks: Sampling) -> list[int]:
        return tiny.guess_of(logits, question, picks, seed=7).tokens

    assert set(drawn(Sampling(temperature=1.0, top_p=0.75))) == {0, 1}
    assert set(drawn(Sampling(temperature=1.0))) == {0, 1, 2, 3}
    assert set(drawn(Sampling(temperature=1.0, top_p=0.1))) == {0}
    assert drawn(Sampling(temperature=1.0)) == drawn(Sampling(temperature=1.0))
    assert abs(drawn(Sampling(temperature=1.0)).count(0) / 400 - 0.5) < 0.1
    assert drawn(Sampling(temperature=0.2)).count(0) > 340  # colder


PROMPT = [7, 50, 61, 72, 83, 94, 105]


def loaded(folder: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(str(folder), checkpoint.read_config(str(folder)), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("family", ["dream", "llada", "diffugpt", "mdlm", "tiny-a2d-qwen3"])
def test_left_to_right_on_a_bidirectional_model_is_a_plain_greedy_loop(family: str, tmp_path: Path) -> None:
    folder, reference = tiny.FAMILIES[family](tmp_path)
    read = loaded(folder)
    shift = read.plan.infill.shift
    after = [33, 44, 55]
    plain = [tiny.MASK] * 6
    for row in range(6):
        logits = reference(torch.tensor([[*PROMPT, *plain, *after]]))[0, len(PROMPT) + row - shift].clone()
        logits[tiny.MASK] = -torch.inf
        plain[row] = int(logits.argmax())
    model = Sequence(BatchRunner(read.model, shift, capacity=512), most_stale=0)
    canvas = Canvas.masked(tiny.MASK, 6)
    asked = Task(Gap(PROMPT, after), tiny.MASK, lambda canvas: None, lambda canvas: [tiny.MASK], free)
    unmask(model, asked, canvas, Policy(rule=left_to_right, passes=6), limits())
    assert canvas.tokens == plain


@pytest.mark.parametrize("family", ["sdar", "stable-diffcoder", "bd3lm", "fast-dllm-v2", "tiny-a2d-blocks"])
def test_blocks_over_kept_keys_and_values_equal_the_loop_without(family: str, tmp_path: Path) -> None:
    """One row a pass, the surest of its block, each pass of the reference over the whole text."""
    folder, reference = tiny.FAMILIES[family](tmp_path)
    read = loaded(folder)
    shift, block = read.plan.infill.shift, read.plan.shape.block
    text = list(PROMPT)
    while len(text) < len(PROMPT) + 10:
        start, size = len(text), block - len(text) % block
        canvas = [tiny.MASK] * size
        while tiny.MASK in canvas:
            logits = reference(torch.tensor([[*text, *canvas]]))[0, start - shift : start + size - shift].clone()
            logits[:, tiny.MASK] = -torch.inf
            sure, tokens = logits.softmax(-1).max(-1)
            row = max((r for r in range(size) if canvas[r] == tiny.MASK), key=lambda r: float(sure[r]))
            canvas[row] = int(tokens[row])
        text += canvas
    model = Sequence(BatchRunner(read.model, shift, capacity=512))
    asked = Task(Gap(PROMPT, []), tiny.MASK, lambda canvas: None, lambda canvas: [tiny.MASK], free)
    for _ in range(2):  # again, over what the first time left
        model.begin()
        made = in_blocks(model, asked, block, Policy(rule=above(2.0), passes=999), limits(10))
        assert made.tokens == text[len(PROMPT) :][:10]
    assert model.encoded == len(PROMPT) % block + shift * (len(PROMPT) % block == 0)


def test_left_padded_blocks_are_those_of_a_prompt_with_padding_before_it(tmp_path: Path) -> None:
    """As in dllm's BD3-LM sampler: padding fills the prompt's first block, has no place and is seen by no row."""
    folder, _ = tiny.FAMILIES["tiny-a2d-blocks"](tmp_path)
    read = loaded(folder)
    block = read.plan.shape.block
    pad = -len(PROMPT) % block
    assert pad
    reference = Qwen3ForCausalLM.from_pretrained(folder, key_mapping={}, attn_implementation="eager")
    text = [0] * pad + PROMPT
    while len(text) < pad + len(PROMPT) + 10:
        canvas = [tiny.MASK] * block
        while tiny.MASK in canvas:
            ids = torch.tensor([[*text, *canvas]])
            hidden = tiny.block_mask(ids.shape[1], block)
            hidden[..., :pad] = torch.finfo(torch.float32).min
            places = (torch.arange(ids.shape[1]) - pad).clamp_min(0)[None]
            with torch.no_grad():
                logits = reference(input_ids=ids, attention_mask=hidden, position_ids=places).logits[0, len(text) :]
            logits[:, tiny.MASK] = -torch.inf
            sure, tokens = logits.softmax(-1).max(-1)
            row = max((r for r in range(block) if canvas[r] == tiny.MASK), key=lambda r: float(sure[r]))
            canvas[row] = int(tokens[row])
        text += canvas
    model = Sequence(BatchRunner(read.model, False, capacity=512))
    policy, expected = Policy(rule=above(2.0), passes=999), text[pad + len(PROMPT) :][:10]
    made = []
    for padding in (pad, 0, pad, pad):  # what is held of other blocks does not serve
        gap = Gap(PROMPT, [], pad=padding)
        asked = Task(gap, tiny.MASK, lambda canvas: None, lambda canvas: [tiny.MASK], free)
        model.begin()
        made.append(in_blocks(model, asked, block, policy, limits(10)).tokens)
        assert model.encoded == (0 if len(made) == 4 else len(PROMPT))
    assert made[0] == made[2] == made[3] == expected != made[1]


def test_a_dual_cache_is_exact_until_the_canvas_changes_and_measures_its_drift_after(tmp_path: Path) -> None:
    folder, reference = tiny.FAMILIES["dream"](tmp_path)
    model = Sequence(BatchRunner(loaded(folder).model, True, capacity=512))
    after = [33, 44, 55]

    def asked(canvas: list[int]) -> CanvasPredictions:
        return model.predict([ForwardInput(PROMPT, canvas, after, [tiny.EOS])])[0]

    masks = [tiny.MASK] * 6
    first, second = asked(masks), asked(masks)
    assert second.tokens == first.tokens
    assert second.probabilities == pytest.approx(first.probabilities, abs=1e-5)
    changed = [88, 77, *masks[2:]]
    asked(changed)  # the refresh's turn: what the masks left is measured against what belongs to these tokens
    assert model.drift > 0.05
    drifted = model.drift
    assert asked(masks).probabilities == pytest.approx(first.probabilities, abs=1e-5)  # no longer trusted
    assert model.drift == pytest.approx(drifted, rel=0.5)
    logits = reference(torch.tensor([[*PROMPT, *changed, *after]]))[0, len(PROMPT) - 1 : len(PROMPT) + 5]
    exact = logits.index_fill(1, torch.tensor([tiny.EOS]), -torch.inf).softmax(-1)
    model.begin()
    fresh = asked(changed)
    assert fresh.probabilities == pytest.approx(exact.max(-1).values.tolist(), abs=1e-4)


class Alphabet:
    """Tokens of the letters from a to q, after the special ones."""

    ended = False
    end, ends = DELETE, frozenset({DELETE})

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") + 3 for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(token - 3 + ord("a")) for token in tokens)


def copying_task(done: str = "") -> Task:
    """`hijkl` has a share of 0.3 and more: the 15 letters before it stand at the cursor too."""
    request = FillRequest(prefix="abcdefgabcdefgabhijklmnopq\n\nabcdefgabcdefgab", max_lines=1)
    return msgspec.structs.replace(task(), copier=Copier(request, Alphabet()), done=Alphabet().encode(done))


def test_a_copy_that_the_model_agrees_with_costs_one_pass() -> None:
    model = Scripted(lambda asked: [(10 + row, 0.6) for row in range(len(asked.canvas))])
    canvas, used = Canvas.masked(MASK, 3), limits()
    unmask(model, copying_task(), canvas, EVERY_PASS, used)
    assert model.seen[0] == canvas.tokens == Alphabet().encode("hij")
    assert used.passes == 1
    assert all(probability > 0.6 for probability in canvas.probabilities)  # two that agree


def test_of_a_copy_stays_what_the_model_agrees_with_and_the_rest_is_denoised() -> None:
    model = Scripted(lambda asked: [(10, 0.6), (3, 0.999), (4, 0.999)])
    canvas, used = Canvas.masked(MASK, 3), limits()
    unmask(model, copying_task(), canvas, EVERY_PASS, used)
    assert model.seen == [Alphabet().encode("hij"), [10, MASK, MASK]]
    assert canvas.tokens == [10, 3, 4]


def test_a_copy_goes_on_behind_the_blocks_before() -> None:
    model = Scripted(lambda asked: [(5, 0.1)] * len(asked.canvas))
    canvas = in_blocks(model, copying_task(), 2, EVERY_PASS, limits(tokens=1))
    assert canvas.tokens == Alphabet().encode("h")
    unmask(model, copying_task("hi"), canvas := Canvas.masked(MASK, 2), EVERY_PASS, limits())
    assert canvas.tokens == Alphabet().encode("jk")


def test_without_drafts_a_copy_is_tried_token_by_token() -> None:
    model = Scripted(lambda asked: [(10 + row, 0.6) for row in range(len(asked.canvas))])
    used = limits()
    used.request = msgspec.structs.replace(used.request, drafts=False)
    unmask(model, copying_task(), canvas := Canvas.masked(MASK, 3), Policy(rule=left_to_right, passes=9), used)
    assert canvas.tokens == Alphabet().encode("hij")
    assert model.seen[0] == [10, MASK, MASK]


def test_the_policy_is_data() -> None:
    policy = Policy(rule=left_to_right, passes=3)
    assert msgspec.structs.replace(policy, passes=5).passes == 5
    assert left_to_right(predictions([0.1, 0.2]), [1, 3], 2) == [1]


@pytest.mark.parametrize("family", ["dream", "llada", "diffugpt", "tiny-a2d-qwen3", "open-dcoder"])
def test_what_stale_keys_and_values_get_wrong_is_less_than_the_drift_that_is_measured(
    family: str, tmp_path: Path
) -> None:
    """The error bound of the dual cache: as tokens are unmasked, the probabilities of a pass over what the masks left
    behind differ from those of a whole pass by less than the keys and values do.
    """
    read = loaded(tiny.FAMILIES[family](tmp_path)[0])
    passes = [BatchRunner(read.model, read.plan.infill.shift, capacity=128) for _ in range(2)]
    errors, drifts = [], []
    for unmasked in range(1, 7):
        dice = torch.Generator().manual_seed(unmasked)
        text = torch.randint(4, tiny.VOCAB, (100,), generator=dice).tolist()
        canvas = [tiny.MASK] * 16
        cached, exact = Sequence(passes[0]), Sequence(passes[1], most_stale=0)
        cached.begin()
        ask = lambda sequence: sequence.predict([ForwardInput(text[:60], canvas, text[76:], [tiny.MASK])])[0]  # noqa: B023, E731
        ask(cached)
        canvas[: 2 * unmasked : 2] = text[60 : 60 + unmasked]
        off = [abs(a - b) for a, b in zip(ask(cached).probabilities, ask(exact).probabilities, strict=True)]
        errors.append(sum(off) / len(off))
        ask(cached)  # the refresh, which measures
        drifts.append(cached.drift)
    assert 0 < sum(errors) < sum(drifts)


@pytest.mark.parametrize(("deadline_ms", "passes"), [(None, 30), (30, 4), (85, 12), (200, 30)])
def test_auto_takes_the_most_passes_that_the_deadline_leaves_time_for(deadline_ms: float | None, passes: int) -> None:
    assert presets.affordable(deadline_ms, first=0.02, each=0.005) == passes
    assert presets.affordable(deadline_ms, first=0.0, each=0.0) == 30  # nothing is known yet
    assert presets.affordable(85, first=0.04, each=0.01) == 4  # the same under load
