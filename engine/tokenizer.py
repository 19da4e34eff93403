"""The embedded model's tokens: byte-level BPE, cut so that text can be encoded line by line.

* No token crosses the border of two lines, so the tokens of a text are those of its lines, one after the other, and
  lines that did not change are looked up, not encoded again. A line is cut off before its newline, which begins a token
  with the indentation after it, or, for a vocabulary that has `):\\n` as one token, after it.
* A cut of the pattern depends on nothing to its right, so typing changes the last word's tokens only.
* Digits are single, so that numbers are spelled alike wherever they stand.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import normalizers, pre_tokenizers

from engine.contract import EngineError

SPECIALS = ("<bos>", "<path>", "<suf>", "<pre>", "<rol>", "<mid>", "<block>", "<eom>", "<mask>", "<pad>")
BOS, PATH, SUF, PRE, ROL, MID, BLOCK, EOM, MASK, PAD = range(len(SPECIALS))

LONGEST = 256  # characters of a word that are looked at
NEWLINE, BLANK, TAB = "Ċ", "Ġ", "ĉ"  # as byte-level BPE spells them

# as Qwen2's authors wrote it; the last two alternatives leave a line's last blank to the word after it
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_lines, _ended_lines = re.compile(r"(?=\n)"), re.compile(r"(?<=\n)")


def lines_of(text: str, ended: bool = False) -> list[str]:
    """The pieces that are encoded apart; a line's newline is the first character of the line after it, or its own last
    where lines are `ended`.
    """
    return [line for line in (_ended_lines if ended else _lines).split(text) if line]


class Tokenizer:
    """`ended` tells that the vocabulary has tokens that end with their line's newline (see `lines_of`)."""

    end, ends = EOM, frozenset({EOM})

    def __init__(self, bpe: tokenizers.Tokenizer) -> None:
        bpe.encode_special_tokens = True  # "<mask>" in a source file is text
        self._bpe = bpe
        self.vocab: int = bpe.get_vocab_size()
        spelled = [bpe.id_to_token(i) or "" for i in range(self.vocab)]
        self._spelled = spelled
        self.ended = any(text.endswith(NEWLINE) and text.strip(NEWLINE + BLANK + TAB) for text in spelled)
        self.after = {
            blank: np.array([i for i, text in enumerate(spelled) if i == EOM or text.startswith(spelling)])
            for blank, spelling in ((" ", BLANK), ("\n", NEWLINE), ("\t", TAB))
            if not (self.ended and blank == "\n")
        }
        self._encode_line = lru_cache(maxsize=8192)(self._encode_piece)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Raises EngineError where the file is missing, is no tokenizer, or has other special tokens than ours."""
        try:
            bpe = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise EngineError(f"the tokenizer {path} cannot be read ({error}); install the model again") from None
        if tuple(bpe.id_to_token(i) for i in range(len(SPECIALS))) != SPECIALS:
            raise EngineError(f"the tokenizer {path} does not belong to an Inpaint model; install the model again")
        return cls(bpe)

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        piece = piece.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        return tuple(self._bpe.encode(piece, add_special_tokens=False).ids)

    def encode_lines(self, text: str) -> list[tuple[int, ...]]:
        """The tokens of each line (see `lines_of`)."""
        return [self._encode_line(line) for line in lines_of(text, self.ended)]

    def encode(self, text: str) -> list[int]:
        return [token for line in self.encode_lines(text) for token in line]

    def split_blank(self, prefix: str) -> tuple[str, str]:
        """The text before the cursor, and the blank at its end that is spelled with what comes after it, so that it
        goes to the middle (a case of token healing): a word takes the last blank of its indentation with it. So does a
        newline, which is spelled with the indentation that follows.
        """
        return (prefix[:-1], prefix[-1]) if prefix[-1:] in self.after else (prefix, "")

    @cached_property
    def _by_word(self) -> dict[str, list[int]]:
        """Tokens by what they are without the blanks before it."""
        found = defaultdict[str, list[int]](list)
        for i, text in enumerate(self._spelled[len(SPECIALS) :], len(SPECIALS)):
            found[text.lstrip(BLANK)].append(i)
        return found

    def first(self, blank: str, others: tuple[str, ...] = ()) -> NDArray[np.int64] | None:
        """What a fill may begin with that spells a blank from before the cursor, and whose first word is none of those
        that others begin with; None for anything.
        """
        allowed = self.after.get(blank)
        if not others:
            return allowed
        known = ["".join(self._spelled[token] for token in self.encode(blank + other)) for other in others]
        words = {text[:end].lstrip(BLANK) for text in known for end in range(min(len(text), LONGEST) + 1)}
        tokens = (token for word in words for token in self._by_word.get(word, ()))
        forbidden = [EOM, *(token for token in tokens if begins(self._spelled[token], known))]
        return np.setdiff1d(np.arange(len(SPECIALS), self.vocab) if allowed is None else allowed, forbidden)

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens; special tokens have none. Bytes that are no UTF-8 come out as U+FFFD."""
        return self._bpe.decode(tokens, skip_special_tokens=True)


def cut_as_qwen2(bpe: tokenizers.Tokenizer) -> None:
    """Have text normalised and cut before bytes are merged as Qwen2's authors do."""
    cut = pre_tokenizers.Split(tokenizers.Regex(QWEN2), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.normalizer, bpe.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Sequence([cut, bytes_])


def begins(token: str, texts: Sequence[str]) -> bool:
    """Whether one of the texts begins with a token, all spelled as byte-level BPE does, or would after blanks that it
    has not; a new line or its indentation alone does not count.
    """
    indents = token.startswith((NEWLINE, TAB)) and not token.strip(NEWLINE + BLANK + TAB)
    word = token.lstrip(BLANK)
    return not indents and any(text.startswith(token if text.startswith(BLANK) else word) for text in texts)
