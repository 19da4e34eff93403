"""A public checkpoint's own tokens, by `tokenizers`, and the gap cut into them.

* A cursor may stand inside what the tokenizer would have made one token: `retur|`, or between an indentation and a
  word. The last token before the cursor is therefore taken back, and the canvas must begin with a token that spells
  it and whatever follows (token healing); its text is cut off the fill again.
* The window begins at a line, chosen from the length of the text alone and moved in steps, so that it stays put while
  the text grows and its keys and values can be kept.
"""

from __future__ import annotations

import bisect
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from engine.contract import EngineError, FillRequest
from engine.models.registry import Infill

# what transformers' Qwen2 tokenizer cuts a text with before it merges bytes
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SUFFIX_FIRST = ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>")  # Seed-Coder's
PREFIX_FIRST = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")  # Qwen's
CHARACTERS = 3  # of code a token, at least: what is not in the window need not be encoded
AFTER_SHARE = 0.25


class Gap(msgspec.Struct, frozen=True):
    """A gap in tokens. `taken` is text before the cursor that the fill spells again, in its first token `firsts`."""

    before: list[int]
    after: list[int]
    taken: str
    firsts: list[int]


class Vocabulary:
    """`ends` are the special tokens: each, predicted, ends a fill."""

    def __init__(self, bpe: tokenizers.Tokenizer, special: dict[str, Any], infill: Infill) -> None:
        self._bpe = bpe
        self._bpe.encode_special_tokens = True  # a file that spells a special token is not one
        mask = infill.mask if infill.mask is not None else self._named(special, "mask_token")
        if mask is None:
            raise EngineError("the checkpoint names no mask token, so it is no masked diffusion model; choose another")
        self.mask: int = mask
        self.eos, self.bos = self._named(special, "eos_token"), self._named(special, "bos_token")
        self.infill = infill
        kept = {self.mask, infill.expand}
        added = {token for token, what in bpe.get_added_tokens_decoder().items() if what.special}
        named = [token for token in (self.eos, infill.delete) if token is not None]
        self.ends = frozenset({*added, *named} - kept)

    @classmethod
    def load(cls, folder: Path, infill: Infill) -> Vocabulary:
        """Raises EngineError where the folder has no tokenizer, or one that cannot be read."""
        config = _json(folder / "tokenizer_config.json")
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

    @cached_property
    def _spellings(self) -> list[tuple[str, int]]:
        special = self.ends | {self.mask, self.infill.expand}
        return sorted((text, token) for text, token in self._bpe.get_vocab().items() if token not in special)

    def starting_like(self, token: int) -> list[int]:
        """All tokens whose spelling begins with that of `token`, itself among them."""
        start = self._bpe.id_to_token(token) or ""
        first = bisect.bisect_left(self._spellings, (start,))
        last = bisect.bisect_left(self._spellings, (start + "\U0010ffff",))
        return [other for _, other in self._spellings[first:last]]

    def gap(self, request: FillRequest, budget: int) -> Gap:
        """`budget` is the most tokens of both sides together."""
        prefix, suffix = request.prefix.replace("\r\n", "\n"), request.suffix.replace("\r\n", "\n")
        after = self.encode(suffix[: budget * CHARACTERS])[: int(budget * AFTER_SHARE)]
        before = self.encode(_recent(prefix, (budget - len(after)) * CHARACTERS))[-(budget - len(after)) :]
        if not before:
            return self._placed(before, after, "", [])
        taken = self.continued(before[:-1], before[-1:])
        if "\ufffd" in taken:  # bytes of a character whose others are in the token before
            return self._placed(before, after, "", [])
        return self._placed(before[:-1], after, taken, self.starting_like(before[-1]))

    def _placed(self, before: list[int], after: list[int], taken: str, firsts: list[int]) -> Gap:
        """The suffix in its place, or before the canvas where the canvas cannot see it there."""
        head = [self.bos] if self.infill.bos and self.bos is not None else []
        if self.infill.suffix:
            tail = [self.eos] if self.infill.eos and self.eos is not None else []
            return Gap(self._nonempty([*head, *before]), [*after, *tail], taken, firsts)
        for marks in (SUFFIX_FIRST, PREFIX_FIRST):
            ids = [token for mark in marks if (token := self._bpe.token_to_id(mark)) is not None]
            if len(ids) == len(marks):
                parts = (after, before) if marks is SUFFIX_FIRST else (before, after)
                return Gap([*head, ids[0], *parts[0], ids[1], *parts[1], ids[2]], [], taken, firsts)
        return Gap(self._nonempty([*head, *after, *(self.encode("\n") if after else []), *before]), [], taken, firsts)

    def _nonempty(self, before: list[int]) -> list[int]:
        """A model with a shift predicts the first token of the canvas in the row before it."""
        start = self.bos if self.bos is not None else self.eos
        return before or [self.encode("\n")[0] if start is None else start]


def _recent(text: str, most: int) -> str:
    """The end of a text, at most so many characters; its beginning, a line's, moves in steps of a quarter."""
    step = max(1, most // 4)
    start = max(0, -(-(len(text) - most) // step) * step)
    line = text.find("\n", start) + 1 if start else 0
    return text[line:] if line else text[start:]


def _from_merges(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    """A byte-level BPE from vocab.json and merges.txt, the older way to store it; Dream's and SDAR's is Qwen2's."""
    if not (folder / "merges.txt").exists():
        raise EngineError(f"{folder} has neither tokenizer.json nor vocab.json and merges.txt; download it again")
    bpe = tokenizers.Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    if "gpt2" in str(config.get("tokenizer_class", "")).lower():
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(tokenizers.Regex(QWEN_PATTERN), behavior="isolated")
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.normalizer, bpe.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Sequence([split, bytes_])
    bpe.decoder = decoders.ByteLevel()
    added = config.get("added_tokens_decoder") or {
        token: {"content": text, "special": True} for text, token in _json(folder / "added_tokens.json").items()
    }
    for _, what in sorted(added.items(), key=lambda item: int(item[0])):
        token = tokenizers.AddedToken(what["content"], special=what["special"], normalized=False)
        (bpe.add_special_tokens if what["special"] else bpe.add_tokens)([token])
    return bpe


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise EngineError(f"{path} is damaged ({error}); download the checkpoint again") from None
    return found if isinstance(found, dict) else {}
