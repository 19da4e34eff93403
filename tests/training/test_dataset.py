"""Training rows are what inference builds, and no target can be seen by the token that predicts it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from trunk_pass import step

import engine
from engine import FillRequest
from engine.corpus import Corpus, FileEntry
from engine.embedded import WEIGHTS
from engine.models.trunk import Trunk, TrunkConfig
from engine.prompt import SNIPPETS_SHARE, prompt
from engine.retrieval.index import Index
from engine.tokenizer import BLOCK, EOM, MASK, MID, PAD, PATH, PRE, ROL, SPECIALS, SUF, Tokenizer
from engine.training.dataset import CONTEXT, MIDDLE, NONE, Batch, Sampler, SamplerConfig

CONFIG = SamplerConfig(context=192, tail=96)
MODEL = TrunkConfig(vocab=16384, dim=32, layers=2, heads=2, head_dim=16, mlp=64)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(WEIGHTS / "small" / "tokenizer.json")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """This project's own sources, laid out as `train corpus` does."""
    folder = tmp_path_factory.mktemp("corpus")
    files = sorted(Path(engine.__file__).parent.rglob("*.py"))
    texts = [path.read_bytes() for path in files if path.stat().st_size > 200]
    names = [path.name for path in files if path.stat().st_size > 200]
    (folder / "corpus.bin").write_bytes(b"".join(texts))
    np.save(folder / "index.npy", np.cumsum([0, *map(len, texts)]))
    entries = [FileEntry("inpaint", f"engine/{name}", len(text)) for name, text in zip(names, texts, strict=True)]
    (folder / "files.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, entries)))
    return Corpus(folder)


@pytest.fixture(scope="module")
def rows(corpus: Corpus, tokenizer: Tokenizer) -> list[Batch]:
    sampler = Sampler(corpus, tokenizer, CONFIG, seed=1)
    return [sampler.row() for _ in range(60)]


@pytest.fixture(scope="module")
def model() -> Trunk:
    torch.manual_seed(0)
    made = Trunk(MODEL)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


def hidden(model: Trunk, row: Batch, tokens: np.ndarray | None = None) -> torch.Tensor:
    with torch.no_grad():
        parts = (row.tokens if tokens is None else tokens, row.positions, row.mask)
        return model(*(torch.from_numpy(part)[None] for part in parts))[0]


def test_rows_have_all_kinds_of_targets(rows: list[Batch]) -> None:
    assert all(len(row.tokens) == CONFIG.context + CONFIG.tail for row in rows)
    kinds = {
        kind: sum(((row.kinds == kind) & (row.targets != NONE)).sum() for row in rows) for kind in (CONTEXT, MIDDLE)
    }
    assert min(kinds.values()) > 10 * len(rows)


def test_next_token_targets_are_the_next_tokens(rows: list[Batch]) -> None:
    for row in rows:
        context = row.tokens[: CONFIG.context]
        seen = np.flatnonzero(row.targets[: CONFIG.context - 1] != NONE)
        assert (row.targets[seen] == context[seen + 1]).all()
        for i in np.flatnonzero((row.kinds == MIDDLE) & (row.targets != NONE)):
            assert row.targets[i] == EOM or row.tokens[i + 1] == row.targets[i]


def test_no_target_can_be_seen(rows: list[Batch], model: Trunk) -> None:
    """Another token at a target's place changes nothing at the row that predicts it."""
    for row in rows[:12]:
        plain = hidden(model, row)
        for i in np.flatnonzero(row.targets != NONE)[::17]:
            changed = row.tokens.copy()
            changed[i + 1] = PAD
            assert torch.equal(hidden(model, row, changed)[i], plain[i])


def test_training_and_inference_see_the_same(corpus: Corpus, tokenizer: Tokenizer) -> None:
    """For cursors in the row's last line, context and lead are those of prompt.prompt, but for the window's start."""
    text = corpus.text(3)
    lines = text.split("\n")
    sampler = Sampler(corpus, tokenizer, CONFIG, seed=2)
    for last in range(0, len(lines), 7):
        context, first, starts = sampler._context(lines, last, "engine/x.py")
        gap = sampler._gap(lines, last, first)
        if gap is None or gap.end_line != last or gap.line != last or gap.start == 0:
            continue
        anchor, lead, middle = sampler._branch(lines, gap, first, starts, context)
        prefix = "\n".join([*lines[:last], lines[last][: gap.start]])
        suffix = "\n".join([lines[last][gap.end :], *lines[last + 1 :]])
        asked = prompt(FillRequest(prefix=prefix, suffix=suffix, path="engine/x.py"), tokenizer, CONFIG.context)
        mine, theirs = [*context[:anchor], *lead], [*asked.context, *asked.uncached_tail]
        short = min(len(mine) - context.index(PRE), len(theirs) - asked.context.index(PRE)) - 1
        assert mine[-short:-1] == theirs[-short:-1]
        assert {mine[-1], theirs[-1]} <= {MID, BLOCK}
        blank = " " if asked.blank else ""
        assert tokenizer.decode(middle) == blank + lines[last][gap.start : gap.end]


def test_training_and_inference_see_the_same_of_base(corpus: Corpus) -> None:
    """Its lines end with their newlines, and the rest of a line stands before the line."""
    base = Tokenizer.load(WEIGHTS / "base" / "tokenizer.json")
    config = msgspec.structs.replace(CONFIG, rest_first=True)
    lines = corpus.text(next(n for n, file in enumerate(corpus.files) if file.path.endswith("stored.py"))).split("\n")
    sampler, rests = Sampler(corpus, base, config, seed=2), set[bool]()
    for last in range(0, len(lines) - 1, 3):
        context, first, starts = sampler._context(lines, last, "engine/x.py")
        gap = sampler._gap(lines, last, first)
        if gap is None or gap.end_line != last or gap.line != last:
            continue
        anchor, lead, middle = sampler._branch(lines, gap, first, starts, context)
        rest = lines[last][gap.end :]
        prefix = "\n".join([*lines[:last], lines[last][: gap.start]])
        request = FillRequest(
            prefix=prefix, suffix="\n".join([rest, *lines[last + 1 :]]), path="engine/x.py", max_lines=1
        )
        asked = prompt(request, base, config.context, rest_first=True)
        mine, theirs = [*context[:anchor], *lead], [*asked.context, *asked.uncached_tail]
        short = min(len(mine) - context.index(PRE), len(theirs) - asked.context.index(PRE)) - 1
        assert mine[-short:] == theirs[-short:]
        whole = lines[last][gap.start : gap.end] if rest.strip() else lines[last][gap.start :] + "\n"
        assert base.decode(middle) == asked.blank + whole
        rests.add(bool(rest.strip()))
    assert rests == {False, True}


def test_passes_over_a_memory_equal_the_training_forward(rows: list[Batch], model: Trunk) -> None:
    """Context, then a branch, in passes of their own."""
    row = rows[0]
    i = int(np.flatnonzero((row.kinds == MIDDLE) & (row.targets != NONE))[-1])
    causal = np.flatnonzero(row.mask[0, i - CONFIG.context]).tolist()
    expected = hidden(model, row) @ model.head.weight.T
    keys = values = torch.zeros(model.config.layers, model.config.heads, 0, model.config.head_dim)
    for part in (causal[:40], causal[40:100], causal[100:]):
        n, cached = len(part), keys.shape[2]
        bias = torch.full((n, cached + n), -1e4).triu(cached + 1)
        inputs = (torch.from_numpy(array[part]) for array in (row.tokens, row.positions))
        logits, new_keys, new_values = step(model, *inputs, keys, values, bias, torch.arange(n))
        torch.testing.assert_close(logits, expected[part], atol=1e-4, rtol=1e-4)
        keys, values = torch.cat((keys, new_keys), dim=2), torch.cat((values, new_values), dim=2)


def test_special_tokens_are_where_they_belong(rows: list[Batch]) -> None:
    for row in rows:
        context = row.tokens[: CONFIG.context]
        assert (context == PRE).sum() == 1
        assert not np.isin(context, [ROL, MID, EOM, MASK]).any()
        assert len(SPECIALS) > PAD


def test_a_share_of_contexts_begins_with_snippets_of_the_package(
    corpus: Corpus, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at inference, and with the rest of the row as without."""
    monkeypatch.setattr("engine.training.dataset.INDEXED", 1 << 30)  # all of it
    wide = msgspec.structs.replace(CONFIG, context=768, snippets=1.0)
    shown = Sampler(corpus, tokenizer, wide, seed=1)
    rows = [shown.row() for _ in range(6)]
    assert any((row.tokens[: wide.context] == PATH).sum() > 1 for row in rows)
    lines = corpus.text(3).split("\n")
    at, snippets = next((n, found) for n in range(20, len(lines)) if (found := shown._shown(3, lines, n)))
    assert 0 < len(snippets) <= wide.context * SNIPPETS_SHARE
    index = Index.of({file.path: corpus.text(n).encode() for n, file in enumerate(corpus.files) if n != 3})
    request = FillRequest(prefix="\n".join(lines[: at + 1]), indexes=(index,))
    asked = prompt(request, tokenizer, wide.context)
    context, _, _ = shown._context(lines, at, "", snippets)
    assert asked.context[: len(snippets) + 2] == context[: len(snippets) + 2]
    unseen = msgspec.structs.replace(request, snippets=False)
    assert prompt(unseen, tokenizer, wide.context).context[1] == SUF
    plain = Sampler(corpus, tokenizer, msgspec.structs.replace(wide, snippets=0.0), seed=1)
    assert all((plain.row().tokens[: wide.context] == PATH).sum() <= 1 for _ in range(6))
