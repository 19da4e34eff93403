"""What stood after the same text elsewhere is likely to follow here: code repeats itself, and a small model knows no
project.

The copier follows the best candidate (see `retrieval.candidates`), and each token is the likeliest of copy and model:
a copied token has the share λ, how often such tokens are right by what speaks for the place and by what the model
thinks of it (see `copy_weights`), and the model's tokens have the rest (∞-gram language models, Liu et al. 2024,
arXiv 2401.17377, section 4; here λ is learned, and the choice greedy). Copies are drafts too, which cost no pass (REST,
arXiv 2311.08252).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.contract import FillRequest, Source
from engine.decoding.limits import DecodedTokens, Spelling
from engine.decoding.runner import Predictions
from engine.prompt import after_cursor
from engine.retrieval.candidates import Candidate, CandidateSearch
from engine.retrieval.copy_weights import Evidence, Weights, prior, share, trust

REACH = 24_000  # characters before and after the cursor that are searched
DRAFT = 12  # tokens
FIRST = re.compile(r"\s*(\w+|\S)")
LIKELY = 0.2  # a draft goes on while this is the chance that all of it will be agreed with


class Copy(NamedTuple):
    """A token that followed elsewhere, and what speaks for it."""

    token: int
    evidence: Evidence
    weights: Weights  # see `share`


class Copier:
    """Copies for one request, token by token: what it says depends on the tokens before, not on how they were found.

    `taken` is text before the cursor that the fill spells again, `model` what decides with the copies.
    """

    def __init__(self, request: FillRequest, spelling: Spelling, taken: str = "", model: str = "small") -> None:
        self._weights = trust(model)
        self._spelling, self._others = spelling, [first_word(other) for other in request.others]
        prefix = request.prefix[-REACH:]
        rest, _, following = after_cursor(prefix, request.suffix[:REACH])
        first = 1 + request.prefix.count("\n", 0, len(request.prefix) - len(prefix))
        where = (first, request.related, request.files, request.indexes, request.edits)
        self._candidates = CandidateSearch(prefix, rest, following, *where)
        self._has_rest = bool(rest.strip())
        self._one_line = request.max_lines == 1 or self._has_rest
        self._searches = request.copies
        self._prefix, self._before, self._taken = prefix, prefix.removesuffix(taken), taken
        self._tokens: list[int] = []
        self._at_line_start = False
        self._candidate: Candidate | None = None
        self.shares: list[float] = []  # of each token of the fill, the prior of the copy that was followed, or 0
        self.ahead: list[int] = []  # what is copied next, to the end of the line
        self._begun = False  # whether the candidate was followed already
        self._followed: list[tuple[int, Candidate]] = []  # characters and where they came from
        self._search()

    @property
    def next(self) -> Copy | None:
        evidence = self._evidence(begun=self._begun)
        return Copy(self.ahead[0], evidence, self._weights) if evidence is not None and self.ahead else None

    @property
    def left(self) -> int:
        """Tokens that are copied to the end of the line."""
        return sum(token not in self._spelling.ends for token in self.ahead)

    def source(self, characters: int) -> Source | None:
        """Where a fill of so many characters came from, its first part if several; None where most was the model's."""
        copied = sum(length for length, _ in self._followed)
        if not self._followed or 2 * copied < characters:
            return None
        return self._followed[0][1].source

    def advance(self, tokens: list[int]) -> None:
        """Go on behind the next tokens of the fill."""
        for token in tokens:
            self._tokens.append(token)
            copy = self.next
            self.shares.append(prior(copy.evidence) if copy and copy.token == token else 0.0)
            if self.ahead[:1] == [token] and self._candidate is not None:
                self._followed.append((len(self._spelling.decode([self.ahead.pop(0)])), self._candidate))
                self._begun = True
            else:
                self.ahead = []
            if not self.ahead:
                self._search()

    def follow(self, tokens: list[int]) -> None:
        """Go to where the fill is these tokens, whatever it was before."""
        known = len(self._tokens)
        if tokens[:known] == self._tokens:
            self.advance(tokens[known:])
        else:
            self._tokens, self._followed, self.shares = list(tokens), [], [0.0] * len(tokens)
            self._search()

    def decided(self) -> DecodedTokens:
        """The copies from here on that are likelier right than not, whatever a model may say; goes on behind them."""
        decided = DecodedTokens()
        while len(decided.tokens) < DRAFT and (copy := self.next) and (share := prior(copy.evidence)) > 0.5:
            decided.tokens.append(copy.token)
            decided.probabilities.append(share)
            self.advance([copy.token])
            if copy.token in self._spelling.ends:
                break
        return decided

    def draft(self) -> list[int]:
        """As many of the next tokens as are likely to be agreed with, which is twice as likely as their being right."""
        chance, tokens = 1.0, self.ahead[:DRAFT]
        for count, token in enumerate(tokens):
            evidence = self._evidence(begun=self._begun or count > 0)
            chance *= min(1.0, 2 * prior(evidence)) if evidence else 0.0
            if chance < LIKELY or token in self._spelling.ends:
                return tokens[:count]
        return tokens

    def _evidence(self, begun: bool) -> Evidence | None:
        """What speaks for the next token of the candidate."""
        line_start, late = self._at_line_start and not begun, bool(self._tokens) and not begun
        return self._candidate.evidence(line_start, begun, late) if self._candidate else None

    def _search(self) -> None:
        self._candidate, self.ahead, self._begun = None, [], False
        if not self._searches:
            return
        fill = self._spelling.decode(self._tokens)
        written = self._before + fill if fill else self._prefix
        line = written[written.rfind("\n") + 1 :]
        self._at_line_start = not line.strip()
        # a further line is sought for itself: after lines that were copied, the copy would go on for ever
        sought = line.lstrip() if "\n" in fill[len(self._taken) :] else written
        # that a line ended there is no suggestion: it may be as unfinished as this one
        candidates = [one for one in self._candidates.candidates(sought, written) if one.line or self._tokens]
        if len(fill) <= len(self._taken):
            candidates = [one for one in candidates if first_word(one.line) not in self._others]
        if not candidates:
            return
        self._candidate = candidates[0]
        self.ahead = self._spelled(("" if self._tokens else self._taken) + self._candidate.line, self._candidate)

    def _spelled(self, line: str, candidate: Candidate) -> list[int]:
        """Tokens of a line, and of what follows where the candidate ends it: the beginning of the next line where one
        follows there that belongs to the same block, or else the end.
        """
        end = [] if self._spelling.end is None else [self._spelling.end]
        if not candidate.ends:
            return self._spelling.encode(line)
        then = "" if self._one_line else candidate.then
        if self._spelling.ended:  # a newline is spelled with what stands before it
            line_end = "" if self._has_rest else then.removesuffix(" ") or "\n"
            return self._spelling.encode(line + line_end) + ([] if then else end)
        return self._spelling.encode(line) + (self._spelling.encode(then) if then else end)


def first_word(text: str) -> str:
    """The first word of a text, or the first sign."""
    found = FIRST.match(text)
    return found[1] if found else ""


def mixed(predictions: Predictions, row: int, copy: Copy | None) -> tuple[int, float]:
    """The likeliest token of model and copy together, and its probability."""
    token, probability = predictions.tokens[row], predictions.probabilities[row]
    if copy is None:
        return token, probability
    copied = predictions.probability(row, copy.token)
    copy_share = share(copy.evidence, copied, probability, copy.weights)
    if copy.token == token:
        return token, copy_share
    own = (1 - copy_share) * probability / (1 - copied)
    return (copy.token, copy_share) if copy_share >= own else (token, own)
