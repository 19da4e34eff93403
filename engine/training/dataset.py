"""Training rows from source files: a context, and a tail of branches, each what stands at one cursor.

The way of one row (`Sampler.row`):

    file, line L ──▶ context   <bos> [<path> …] <suf> lines after L … <pre> … lines up to the end of L
                └──▶ branches  at cursors in L (60 %) or up to ten lines above it:
                               [end of a word that the cursor cut] <rol> rest of line <mid> middle <eom>

A file is drawn by its bytes, and a language by its share (`Corpus.weights`). The context is what the KV memory holds
while somebody types, a branch what is thrown away after each request, so training sees exactly what inference builds.
A branch in line L has its true following lines in `<suf>`; those above it see them some lines away, as after a few
lines typed. Cursors are cut at characters, prefix and middle are encoded apart, and so a cursor inside a word works.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.backends.kv_cache import ModelShape
from engine.contract import FillRequest
from engine.corpus import Corpus
from engine.prompt import FOLLOWING_SHARE, PATH_TOKENS, REST_TOKENS, shown
from engine.retrieval.index import Index
from engine.tokenizer import BLOCK, BOS, EOM, MID, PAD, PATH, PRE, ROL, SUF, Tokenizer

NONE = -1
INDEXED = 1 << 18  # bytes of a package, and one file more, that snippets are taken from
MISSES = 8  # gaps that are none, or do not fit, after which a row is full


class TrainingGap(msgspec.Struct, frozen=True):
    """Lines are numbered in the file; `start` and `end` are columns."""

    line: int
    start: int
    end_line: int
    end: int


class Batch(msgspec.Struct):
    """What a forward and the losses need. B rows, T context tokens, Q tail tokens.

    tokens, positions, targets, kinds (B, T + Q) int64; mask (B, 1, Q, T + Q) bool. A target of -1 carries no loss;
    `kinds` says which loss it belongs to.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    targets: NDArray[np.int64]
    kinds: NDArray[np.int64]
    mask: NDArray[np.bool_]


CONTEXT, MIDDLE = range(2)  # kinds of targets


class SamplerConfig(msgspec.Struct, frozen=True, kw_only=True):
    context: int = 384  # T
    tail: int = 192  # Q
    middle: int = 48  # tokens; a longer gap is left out, since the tail is short
    rest_first: bool = False  # see prompt.prompt
    snippets: float = 0.0  # share of contexts that begin with snippets of other files of the package
    by_language: bool = True  # see Corpus.weights

    @property
    def shape(self) -> ModelShape:
        """What the engine needs to know of a model that was trained on such rows."""
        return ModelShape(context=self.context, rest_first=self.rest_first)


class Sampler:
    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, config: SamplerConfig, seed: int) -> None:
        self.corpus, self.tokenizer, self.config = corpus, tokenizer, config
        self.random = random.Random(seed)
        self._weights = np.cumsum(corpus.weights(config.by_language))
        self._packages = defaultdict[str, list[int]](list)  # the numbers of their files
        for number, file in enumerate(corpus.files if config.snippets else ()):
            self._packages[file.package].append(number)

    def batch(self, rows: int) -> Batch:
        built = [self.row() for _ in range(rows)]
        return Batch(*(np.stack([getattr(row, name) for row in built]) for name in Batch.__struct_fields__))

    def row(self) -> Batch:
        """One row, without the leading batch dimension."""
        number = int(np.searchsorted(self._weights, self.random.random() * self._weights[-1], side="right"))
        lines = self.corpus.text(number).split("\n")
        last = self.random.randrange(len(lines))
        for _ in range(8):  # a cursor that matters is seldom on a blank line, or on one of brackets alone
            if re.search(r"\w", lines[last]):
                break
            last = self.random.randrange(len(lines))
        path = self.corpus.files[number].path if self.random.random() < 0.7 else ""
        has_snippets = self.config.snippets and self.random.random() < self.config.snippets
        return self._build(lines, last, path, self._shown(number, lines, last) if has_snippets else [])

    def _shown(self, number: int, lines: list[str], last: int) -> list[int]:
        """Snippets for a line of a file, as at inference, of other files of its package."""
        package = self._packages[self.corpus.files[number].package]
        texts, size = dict[str, bytes](), 0
        for other in self.random.sample(package, len(package)):
            if size >= INDEXED:
                break
            if other != number:
                texts[self.corpus.files[other].path] = text = self.corpus.text(other).encode()[:INDEXED]
                size += len(text)
        request = FillRequest(prefix="", indexes=(Index.of(texts),))
        return shown("\n".join([*lines[:last], ""]), request, self.tokenizer, self.config.context)

    def _build(self, lines: list[str], last: int, path: str, snippets: list[int]) -> Batch:
        context, first, starts = self._context(lines, last, path, snippets)
        row = _Row(self.config, context)
        misses, cursors = 0, set[tuple[int, int]]()
        while misses < MISSES and row.used < self.config.tail - 8:
            gap = self._gap(lines, last, first)
            if gap is None or (gap.line, gap.start) in cursors:  # short lines have few cursors, which teach it once
                misses += 1
                continue
            cursors.add((gap.line, gap.start))
            misses += not row.add(*self._branch(lines, gap, first, starts, context))
        return row.finish()

    def _context(
        self, lines: list[str], last: int, path: str, snippets: Sequence[int] = ()
    ) -> tuple[list[int], int, list[int]]:
        """The context's tokens, its first line, and where each of its lines starts in it."""
        budget = self.config.context
        head = [BOS, *snippets]
        if path:
            head += [PATH, *self.tokenizer.encode("/".join(path.split("/")[-3:]))[:PATH_TOKENS]]
        head.append(SUF)
        share = FOLLOWING_SHARE if self.random.random() < 0.9 else 0.0
        following = self._following(lines, last, int(budget * share))
        prefix: list[tuple[int, ...]] = []
        room = budget - len(head) - len(following) - 1
        first = last + 1
        while first > 0:
            piece = self._line(lines, first - 1, first - 1 == 0)
            if len(piece) > room:
                break
            prefix.append(piece)
            room -= len(piece)
            first -= 1
        if first == 0 and share:  # a short prefix leaves its room to the following lines
            following = self._following(lines, last, len(following) + room)
        context = [*head, *following, PRE]
        starts = []
        for piece in reversed(prefix):
            starts.append(len(context))
            context += piece
        return context, first, starts

    def _line(self, lines: list[str], number: int, opens_file: bool) -> tuple[int, ...]:
        opened = "" if opens_file or self.tokenizer.ended else "\n"
        pieces = self.tokenizer.encode_lines(opened + lines[number] + self._line_end(lines, number))
        return pieces[0] if pieces else ()

    def _line_end(self, lines: list[str], number: int) -> str:
        """The newline that is a line's own, if any is."""
        return "\n" if self.tokenizer.ended and number < len(lines) - 1 else ""

    def _following(self, lines: list[str], last: int, budget: int) -> list[int]:
        """What follows a line, with the newline before it, which tells that the line ends there."""
        tokens = self.tokenizer.encode(self._line_end(lines, last))
        for number in range(last + 1, len(lines)):
            if len(tokens) >= budget:
                break
            tokens += self._line(lines, number, False)
        return tokens[:budget]

    def _gap(self, lines: list[str], last: int, first: int) -> TrainingGap | None:
        """To the end of the line 50 %, whole lines 20 %, an indented block 15 %, any span 15 %; a third has several
        lines.
        """
        pick = self.random.random
        end_line = last if pick() < 0.6 else last - self.random.randrange(10)
        if end_line < first or not lines[end_line].strip():
            return None
        kind = pick()
        line = lines[end_line]
        indent = len(line) - len(line.lstrip())
        if kind < 0.5:
            start = self._column(line, indent)
            return TrainingGap(end_line, start, end_line, self._before_closers(line, start))
        if kind < 0.7:
            start_line = max(first, end_line - self.random.choice((0, 0, 1, 2, 3)))
            return TrainingGap(start_line, 0, end_line, len(line))
        if kind < 0.85:
            return self._block(lines, end_line, first)
        start_line = max(first, end_line - self.random.choice((0, 0, 1, 2)))
        start = self.random.randint(0, len(lines[start_line]))
        least = start if start_line == end_line else 0
        return TrainingGap(start_line, start, end_line, self.random.randint(least, len(line)))

    def _column(self, line: str, indent: int) -> int:
        """After the indentation 30 %, before a word 30 %, anywhere 40 %."""
        kind = self.random.random()
        if kind < 0.3:
            return indent
        if kind < 0.6:
            starts = [match.start() for match in re.finditer(r"(?<!\w)(?=\w)|(?<=[(\[{,=.] )", line)]
            return self.random.choice(starts or [indent])
        return self.random.randint(indent, len(line))

    def _before_closers(self, line: str, start: int) -> int:
        """Where the middle ends: a third of the time before brackets and quotes that an editor closed by itself."""
        closers = re.search(r"[)\]}\"'`]+[:,;]?$", line[start:])
        if closers is None or self.random.random() > 0.35:
            return len(line)
        return start + self.random.randint(closers.start(), len(line) - start)

    def _block(self, lines: list[str], end_line: int, first: int) -> TrainingGap:
        """From the first character of an indented run of lines to the end of `end_line`."""
        start_line = end_line
        indent = len(lines[end_line]) - len(lines[end_line].lstrip())
        while start_line > first and end_line - start_line < 7:
            above = lines[start_line - 1]
            if not above.strip() or len(above) - len(above.lstrip()) < indent:
                break
            start_line -= 1
        text = lines[start_line]
        return TrainingGap(start_line, len(text) - len(text.lstrip()), end_line, len(lines[end_line]))

    def _branch(
        self, lines: list[str], gap: TrainingGap, first: int, starts: list[int], context: list[int]
    ) -> tuple[int, list[int], list[int]]:
        """(anchor, tokens up to and with <mid>, middle with <eom>); the anchor is how much of the context is seen."""
        begin, end = starts[gap.line - first], self._line_end(lines, gap.end_line)
        line_end = "\n" if gap.line and not self.tokenizer.ended else ""
        head, blank = self.tokenizer.split_blank(line_end + lines[gap.line][: gap.start])
        cut = self.tokenizer.encode(head)
        shared = 0
        while shared < len(cut) and begin + shared < len(context) and cut[shared] == context[begin + shared]:
            shared += 1
        rest = lines[gap.end_line][gap.end :]
        middle = "\n".join(lines[gap.line : gap.end_line + 1])
        middle = blank + middle[gap.start : len(middle) - len(rest)]
        if self.config.rest_first:
            marked = [ROL, *self.tokenizer.encode(rest + end)[:REST_TOKENS], MID] if rest.strip() else []
            tokens = [*context[:begin], *marked, *cut]
            anchor = begin if marked else min(begin + shared, len(tokens) - 1)
            return anchor, tokens[anchor:], [*self.tokenizer.encode(middle + ("" if marked else rest + end)), EOM]
        several = "\n" in middle and self.random.random() < 0.5
        marked = [ROL, *self.tokenizer.encode(rest)[:REST_TOKENS]] if rest else []
        lead = [*cut[shared:], *marked, BLOCK if several else MID]
        return begin + shared, lead, [*self.tokenizer.encode(middle), EOM]


class _Row:
    """One row under construction."""

    def __init__(self, config: SamplerConfig, context: list[int]) -> None:
        self.config = config
        size, tail = config.context + config.tail, config.tail
        self.tokens = np.full(size, PAD)
        self.tokens[: len(context)] = context
        self.positions = np.arange(size)
        self.targets = np.full(size, NONE)
        self.targets[: len(context) - 1] = context[1:]
        self.kinds = np.full(size, CONTEXT)
        self.mask = np.zeros((tail, size), dtype=np.bool_)
        self.mask[:, 0] = True  # a padded row must look somewhere
        self.used = 0

    def add(self, anchor: int, lead: list[int], middle: list[int]) -> bool:
        """Add a branch, which continues the context from `anchor` and sees it up to there; False where it does not
        fit.
        """
        branch = lead + middle[:-1]
        if len(middle) > self.config.middle or self.used + len(branch) > self.config.tail:
            return False
        row = self.config.context + self.used
        end = row + len(branch)
        self.tokens[row:end] = branch
        self.positions[row:end] = np.arange(anchor, anchor + len(branch))
        self.targets[end - len(middle) : end] = middle
        self.kinds[end - len(middle) : end] = MIDDLE
        tail = slice(self.used, self.used + len(branch))
        self.mask[tail, :anchor] = True
        self.mask[tail, row:end] = np.tri(len(branch), dtype=np.bool_)
        self.used += len(branch)
        return True

    def finish(self) -> Batch:
        return Batch(self.tokens, self.positions, self.targets, self.kinds, self.mask[None])


def to_torch(batch: Batch) -> list[Tensor]:
    """In the order of Objective.forward."""
    return [torch.from_numpy(getattr(batch, name)) for name in Batch.__struct_fields__]
