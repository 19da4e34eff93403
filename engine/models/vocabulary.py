"""A public checkpoint's own tokens, by `tokenizers`, and the gap cut into them.

* A cursor may stand inside what the tokenizer would have made one token: `retur|`, or between an indentation and a
  word. The last word, blanks or signs before the cursor are therefore taken back, and the canvas must spell them
  again, cut into tokens as the model likes (token healing). Their text is cut off the fill.
* The window begins at a line, chosen from the length of the text alone and moved in steps, so that it stays put while
  the text grows and its keys and values can be kept.
"""

from __future__ import annotations

import bisect
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from engine.contract import EngineError, FillRequest
from engine.decoding.runner import Gap
from engine.models.family import InfillFormat
from engine.tokenizer import begins, cut_as_qwen2

BEFORE, AFTER = "before", "after"  # the sides of a gap
SUFFIX_FIRST = ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>")  # Seed-Coder's
# fill-in-the-middle tokens, and where the sides of the gap stand among them, as authors say; but Qwen2.5-Coder, which
# has the prefix first by its authors, is righter with the suffix first (SPM, Bavarian et al. 2022, arXiv 2207.14255)
LAYOUTS = (
    (SUFFIX_FIRST[0], AFTER, SUFFIX_FIRST[1], BEFORE, SUFFIX_FIRST[2]),
    ("<|fim_prefix|>", "<|fim_suffix|>", AFTER, "<|fim_middle|>", BEFORE),
    ("<fim_prefix>", BEFORE, "<fim_suffix>", AFTER, "<fim_middle>"),  # StarCoder2, Granite
    ("<｜fim▁begin｜>", BEFORE, "<｜fim▁hole｜>", AFTER, "<｜fim▁end｜>"),  # noqa: RUF001 (DeepSeek-Coder)
)
LAST_PIECE = re.compile(r"(?:[^\S\n]?\w+|[^\S\n]+|[^\w\s]+)\Z")  # what a tokenizer may join with what comes next
LAST_BLANK = re.compile(r"\s+\Z")
LONGEST_PIECE = 24  # characters: a longer word is not taken back whole
CHARACTERS = 3  # of code a token, at least: what is not in the window need not be encoded
AFTER_SHARE = 0.25


class Vocabulary:
    """`ends` are the special tokens: each, predicted, ends a fill."""

    ended = False

    def __init__(self, bpe: tokenizers.Tokenizer, special: dict[str, Any], infill: InfillFormat) -> None:
        self._bpe = bpe
        self._bpe.encode_special_tokens = True  # a file that spells a special token is not one
        self.eos, self.bos = self._named(special, "eos_token"), self._named(special, "bos_token")
        decoder = bpe.get_added_tokens_decoder().items()
        added = {token for token, what in decoder if what.special or what.content.startswith("<")}
        known = {BEFORE, AFTER, *bpe.get_vocab()}
        self.layout = next((layout for layout in LAYOUTS if known.issuperset(layout)), ())
        mask = infill.mask if infill.mask is not None else self._named(special, "mask_token")
        if infill.causal:  # has none: one of the tokens that nobody writes stands for it
            unwritten = [*map(bpe.token_to_id, self.layout[:1]), self.bos, *sorted(added)]
            mask = next((token for token in unwritten if token not in (None, self.eos)), None)
        if mask is None:
            raise EngineError("the checkpoint names no mask token, so it is no masked diffusion model; choose another")
        self.mask: int = mask
        if infill.expand is None and infill.mark is not None:
            infill = msgspec.structs.replace(infill, expand=self._bpe.token_to_id(infill.mark))
        if infill.bos is None:
            infill = msgspec.structs.replace(infill, bos=self.bos in bpe.encode("").ids)
        self.infill = infill
        self._heals = "ByteLevel" in repr(bpe.pre_tokenizer)  # others do not spell a piece as they spell the whole
        joined = self.decode(self.encode("\n    x")[:1])
        # with the next indentation; who sees what follows the canvas in its place reads any beginning of it
        self._joins_lines = self._heals and not infill.suffix and joined != "\n" and joined.startswith("\n")
        kept = {self.mask, infill.expand}
        named = [token for token in (self.eos, infill.delete) if token is not None]
        self.ends = frozenset({*added, *named} - kept)

    @classmethod
    def load(cls, folder: Path, infill: InfillFormat) -> Vocabulary:
        """Raises EngineError where the folder has no tokenizer, or one that cannot be read."""
        config = read_json(folder / "tokenizer_config.json")
        try:
            if (folder / "tokenizer.json").exists():
                return cls(tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), config, infill)
            return cls(_from_merges(folder, config), config, infill)
        except EngineError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise EngineError(f"{folder} has no tokenizer that can be read ({error}); download it again") from None

    def _named(self, special: dict[str, Any], name: str) -> int | None:
        token = special.get(name)
        found: int | None = self._bpe.token_to_id(token["content"] if isinstance(token, dict) else token or "")
        return found

    def all_ids(self) -> set[int]:
        """Every id that a window may hold or a fill may be decoded from."""
        infill = self.infill
        named = {token for token in (self.mask, infill.expand, infill.delete) if token is not None}
        return named | set(self._bpe.get_vocab().values())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._bpe.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: list[int]) -> str:
        """Special tokens have no text. Bytes that are no UTF-8 come out as U+FFFD."""
        text: str = self._bpe.decode(tokens, skip_special_tokens=True)
        return text

    def continued(self, before: list[int], tokens: list[int]) -> str:
        """The text of tokens after others: some tokenizers drop a blank at the beginning of a text."""
        start, whole = self.decode(before[-4:]), self.decode([*before[-4:], *tokens])
        return whole[len(start) :] if whole.startswith(start) else self.decode(tokens)

    def boundary(
        self, spelled: str, tokens: list[int], done: list[int] | None = None, known: tuple[str, ...] = ()
    ) -> tuple[int, list[int]] | None:
        """The row that must go on spelling what was taken back, and the tokens that do; None once it is spelled.
        Where a fill is to differ from what is `known` to follow, the row that it differs in.

        `done` are the tokens of the blocks before. A row that spells something else is masked again, and a canvas that
        has become too short for it gets a row more, unless blocks follow.
        """
        rest = spelled
        for token in done or []:
            text = self._text(token)
            known = known if rest and rest.startswith(text) else ()  # what is behind the spelling differs already
            rest = "" if text.startswith(rest) else rest.removeprefix(text)
        for row, token in enumerate(tokens):
            text = "" if token == self.mask else self._text(token)
            if not rest and (not known or (text and not begins(text, known))):
                return None
            if rest and text.startswith(rest) and text != rest:
                return None
            if not rest or not text or not rest.startswith(text):
                tokens[row] = self.mask
                return row, self._spelling(rest, known)
            rest = rest[len(text) :]
        if not rest or done is not None:
            return None
        tokens.append(self.mask)
        return len(tokens) - 1, self._spelling(rest, known)

    @cached_property
    def _spellings(self) -> list[tuple[str, int]]:
        special = self.ends | {self.mask, self.infill.expand}
        return sorted((text, token) for text, token in self._bpe.get_vocab().items() if token not in special)

    def _spelling(self, rest: str, known: tuple[str, ...]) -> list[int]:
        """All tokens that are a beginning of `rest`, or that it is a beginning of."""
        shorter = (self._bpe.token_to_id(rest[:end]) for end in range(1, len(rest)))
        return [*(token for token in shorter if token is not None), *self.unlike(rest, known)]

    def unlike(self, rest: str, known: tuple[str, ...]) -> list[int]:
        """Tokens that `rest` is a beginning of, and that go on otherwise than all that is `known` to follow it."""
        among = self._spellings[self._at(rest) : self._at(rest + "\U0010ffff")]
        begun = [rest + each for each in known]
        return [token for text, token in among if text == rest or not begins(text, begun)]

    def after(self, gap: Gap, texts: tuple[str, ...]) -> tuple[str, ...]:
        """How tokens spell texts that a gap may be filled with."""
        wholes = (self.encode(gap.taken + text) for text in texts)
        return tuple("".join(map(self._text, whole))[len(gap.spelled) :] for whole in wholes)

    def _text(self, token: int) -> str:
        return self._bpe.id_to_token(token) or ""

    def _at(self, text: str) -> int:
        return bisect.bisect_left(self._spellings, (text,))

    def gap(self, request: FillRequest, budget: int) -> Gap:
        """`budget` is the most tokens of both sides together."""
        prefix, suffix = request.prefix, request.suffix
        after = self.encode(suffix[: budget * CHARACTERS])[: int(budget * AFTER_SHARE)]
        cursor = len(prefix) - len(self._last_piece(prefix[-LONGEST_PIECE:]))
        room = budget - len(after)
        before = self.encode(recent(prefix[:cursor], room * CHARACTERS))[-room:]
        taken = self.encode(prefix[cursor:])
        spelled = "".join(self._bpe.id_to_token(token) or "" for token in taken)
        return self._placed(Gap(before, after, self.decode(taken), spelled))  # decoded: some tokenizers normalise

    def _last_piece(self, text: str) -> str:
        """What is taken back; the end of the line before too, where a tokenizer joins that with an indentation."""
        found = (self._joins_lines and LAST_BLANK.search(text)) or (self._heals and LAST_PIECE.search(text))
        return found[0] if found else ""

    def _placed(self, gap: Gap) -> Gap:
        """The suffix in its place, or before the canvas where the canvas cannot see it there."""
        head = [self.bos] if self.infill.bos and self.bos is not None else []
        if self.infill.suffix:
            tail = [self.eos] if self.infill.eos and self.eos is not None else []
            before, after = self._nonempty([*head, *gap.before]), [*gap.after, *tail]
        else:
            before, after = self._nonempty([*head, *self._marked(gap)]), []
        return msgspec.structs.replace(gap, before=before, after=after)

    def _marked(self, gap: Gap) -> list[int]:
        """Both sides among the tokens of fill-in-the-middle training; the suffix first where the model has none."""
        if not self.layout:
            return [*gap.after, *(self.encode("\n") if gap.after else []), *gap.before]
        known = {part: [token] for part in self.layout if (token := self._bpe.token_to_id(part)) is not None}
        sides = known | {BEFORE: gap.before, AFTER: gap.after}
        return [token for part in self.layout for token in sides[part]]

    def _nonempty(self, before: list[int]) -> list[int]:
        """A model with a shift predicts the first token of the canvas in the row before it."""
        start = self.bos if self.bos is not None else self.eos
        return before or [self.encode("\n")[0] if start is None else start]


def fills_gaps(folder: Path) -> bool:
    """Whether a tokenizer is that of a causal model which fills gaps: it has tokens for that, and names no mask."""
    special = read_json(folder / "tokenizer_config.json")
    return not special.get("mask_token") and bool(Vocabulary.load(folder, InfillFormat(causal=True)).layout)


def recent(text: str, most: int) -> str:
    """The end of a text, at most so many characters; its beginning, a line's, moves in steps of a quarter."""
    step = max(1, most // 4)
    start = max(0, -(-(len(text) - most) // step) * step)
    line = text.find("\n", start) + 1 if start else 0
    return text[line if 0 < line < len(text) else start :]


def _from_merges(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """A byte-level BPE from vocab.json and merges.txt, the older way to store it; Dream's and SDAR's is Qwen2's."""
    if not (folder / "merges.txt").exists():
        raise EngineError(f"{folder} has neither tokenizer.json nor vocab.json and merges.txt; download it again")
    added = config.get("added_tokens_decoder") or {
        token: {"content": text, "special": True} for text, token in read_json(folder / "added_tokens.json").items()
    }
    vocab, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    declared = {what["content"]: int(token) for token, what in added.items()}
    bpe = tokenizers.Tokenizer(models.BPE({**vocab, **declared}, merges))  # or the library would number them itself
    if "gpt2" in str(config.get("tokenizer_class", "")).lower():
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cut_as_qwen2(bpe)
    bpe.decoder = decoders.ByteLevel()
    for what in added.values():
        token = tokenizers.AddedToken(what["content"], special=what["special"], normalized=False)
        (bpe.add_special_tokens if what["special"] else bpe.add_tokens)([token])
    return bpe


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise EngineError(f"{path} is damaged ({error}); download the checkpoint again") from None
    if not isinstance(found, dict):
        raise EngineError(f"{path} is no JSON object; download the checkpoint again")
    return found
