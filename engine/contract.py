"""What crosses the border between an editor's server and the engine: three types and one call."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from engine.retrieval.index import Index


class EngineError(Exception):
    """The engine cannot do what was asked; the message says in one sentence what to do about it."""


class Refusal(EngineError):
    """The request asks for what this model does not have."""


class Cancelled(Exception):
    """The request was cancelled between two forward passes."""


Dial = Annotated[float, msgspec.Meta(ge=0, le=100)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**24)]  # no vocabulary and no canvas has more
Token = Annotated[int, msgspec.Meta(ge=0, le=2**24)]
Cache: TypeAlias = Literal["exact", "fast"]
Algorithm = Literal[
    "origin", "maskgit_plus", "topk_margin", "entropy", "low_confidence", "random", "p2", "confidence_threshold"
]


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tokens are chosen and a public model's canvas is unmasked, by the names that the samplers' authors gave. What
    is None is as the checkpoint's generation_config.json says, or else as Inpaint finds best for the family. The
    embedded models have the first two and the seed.

    temperature, top_p          what a row's token is drawn from; at temperature 0 it is the likeliest
    top_k                       of the likeliest so many
    alg             which rows keep their token. Dream's: origin (each by chance), maskgit_plus (the likeliest),
                    topk_margin (those with the largest lead), entropy (the least uncertain). LLaDA's:
                    low_confidence, random. Open-dCoder's: p2 (all but the least likely, which are masked again).
                    Fast-dLLM's: confidence_threshold (all above `threshold`, at least one)
    alg_temp        above 0, the rows are drawn too, by what `alg` ranks them by
    block_length    rows of a bidirectional canvas that are unmasked before the next so many are
    left_pad        models in blocks: one begins at the canvas, as if tokens that nobody sees stood before the window
                    (dllm's BD3-LM sampler); otherwise they lie at multiples of their length from the window's start
    cfg_scale       classifier-free guidance, against the canvas with nothing around it
    suppress_tokens           ids that are never written
    logits_eos_inf            the fill does not end before its canvas does
    confidence_eos_eot_inf    the end is unmasked last
    pad_eos_to_right          DreamOn: nothing follows what is deleted; otherwise (delete_eos_token) rows go one by one
    cache           exact: every row sees the canvas as it is; fast: what is around it is as it was some passes ago
    seed            of all that is drawn
    """

    temperature: Dial | None = None
    top_p: Share | None = None
    top_k: Count | None = None
    alg: Algorithm | None = None
    alg_temp: Dial | None = None
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    block_length: Count | None = None
    left_pad: bool | None = None
    cfg_scale: Dial | None = None
    suppress_tokens: Annotated[tuple[Token, ...], msgspec.Meta(max_length=6)] | None = None
    logits_eos_inf: bool | None = None
    confidence_eos_eot_inf: bool | None = None
    pad_eos_to_right: bool | None = None
    cache: Cache | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None

    def over(self, other: Sampling) -> Sampling:
        """These options, and the other's where these say nothing; a threshold replaces another way of choosing rows."""
        if self.threshold is not None and self.alg is None and other.alg != "confidence_threshold":
            other = msgspec.structs.replace(other, alg=None)
        said = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(other, **said)


class Edit(NamedTuple):
    """What was put into a line, and the line before and after it."""

    before: str
    text: str
    after: str


class FillRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A gap in a text. All models honour all of it; where one cannot, it raises EngineError.

    `max_lines` of None lets the model choose the length. `deadline_ms` is counted from the call of `fill`; when
    it passes, decoding ends with what is verified so far. `steps` is the number of denoising passes a
    canvas of a public model; the embedded models' drafters make one.
    `related` are other texts of the project, the likeliest to be of use first, of which is copied as of the text around
    the cursor, and `indexes` know other files; without `copies` nothing is, and without `snippets` the model is shown
    nothing of them. `files` are the absolute paths of the file at hand, of the related texts, and of further files
    whose text in an index is older than another; `edits` are what was changed lately, the latest first, and may be made
    at the cursor again. A fill ends before the line that makes it less
    confident than `min_confidence` (if that is its first, within it). Without `drafts` a pass brings one token.
    `others` are fills of the gap that are known: this one begins with another token; it is empty, or one of them again,
    where there is no other.

    Denoised tokens surer than `trust` are taken at once. At 1 it is for the model to say which: the embedded models
    verify all, so that their text is the same whatever the drafts were; public ones have their family's rule. That is
    up to rounding: what is reused of a KV memory was computed in passes of other lengths, and where two tokens are
    about as likely, the other may win.
    `sampling` draws tokens at a temperature above 0, for which all are verified whatever `trust` is; its other options
    are for public checkpoints.
    """

    prefix: str
    suffix: str = ""
    path: str = ""
    max_lines: int | None = None
    max_tokens: int = 64
    deadline_ms: float | None = None
    steps: int = 1
    related: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    edits: tuple[Edit, ...] = ()
    min_confidence: float = 0.0
    drafts: bool = True
    copies: bool = True
    snippets: bool = True
    trust: float = 1.0
    others: tuple[str, ...] = ()
    sampling: Sampling = Sampling()


DRAWN = ("temperature", "top_p", "seed")


def takes(request: FillRequest, *options: str) -> None:
    """Raises Refusal where others of the samplers' options are asked of a model that has these. What is 0 or False
    changes nothing.
    """
    said = msgspec.structs.asdict(request.sampling)
    if other := next((name for name, value in said.items() if value and name not in options), None):
        has = f"has only {', '.join(options)}" if options else "has none"
        raise Refusal(f"the model has no option {other}: of the samplers' options it {has}")


class TokenSpan(NamedTuple):
    """A token of a fill: where it ends in the text, in characters, and its probability. That nothing follows is the
    last piece of a complete fill, of no characters. `copied` is the share that a copy had in it, 0 where it is none.
    """

    end: int
    probability: float
    copied: float = 0.0


class Source(msgspec.Struct, frozen=True):
    """Where text was copied from: an absolute path, and a line from 1; of the file at hand, which may have no path,
    from the beginning of what was given of it.
    """

    path: str
    line: int


Drafting: TypeAlias = Literal["", "on", "off"]


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """What goes between prefix and suffix, and what it cost.

    `confidence` in [0, 1] is that of all `pieces` together, see `confidence`; 0 for an empty fill. `pieces` are the
    tokens; those that spell what stands before the cursor again end at 0. `source` is where most of the text was copied
    from, if it was; `typed` are the characters of a fill that are written already.
    `passes` counts forward passes, `tokens` the tokens of the fill, `encoded` and `reused` the context tokens run
    through the model and taken from the KV memory. `complete` is False where a limit or the deadline ended it.
    `instead` says why another model than the one that was asked for has answered, `model` which one has.
    `drafting` says whether the model denoises drafts: off where verifying them would take longer than it saves on this
    machine, empty where it has no drafter.
    `whole_window` is False where the deadline left time for a smaller model only, or a better one is being loaded.
    """

    text: str
    confidence: float
    passes: int
    tokens: int
    encoded: int
    reused: int
    encode_ms: float
    decode_ms: float
    complete: bool
    pieces: tuple[TokenSpan, ...] = ()
    typed: int = 0
    instead: str = ""
    source: Source | None = None
    model: str = ""
    drafting: Drafting = ""
    whole_window: bool = True

    def after(self, typed: int) -> Fill:
        """What is left once so many characters are typed, as sure as its own tokens are.

        Of a token typed in part its whole probability counts, though what is typed has made it likelier.
        """
        if not typed:
            return self
        first = sum(piece.end <= typed for piece in self.pieces)
        first = min(first, len(self.pieces) - self.complete)
        pieces = tuple(piece._replace(end=piece.end - typed) for piece in self.pieces[first:])
        sure = confidence(piece.probability for piece in pieces) if self.pieces else self.confidence
        whole = self.typed + typed
        return msgspec.structs.replace(self, text=self.text[typed:], confidence=sure, pieces=pieces, typed=whole)

    def before(self, end: int) -> Fill:
        """Only the beginning, as sure as its own tokens are."""
        pieces = tuple(piece for piece in self.pieces if piece.end <= end)
        sure = confidence(piece.probability for piece in pieces) if self.pieces else self.confidence
        complete = self.complete and end == len(self.text)
        return msgspec.structs.replace(self, text=self.text[:end], confidence=sure, pieces=pieces, complete=complete)


def confidence(probabilities: Iterable[float]) -> float:
    """The square root of the product of the probabilities of tokens: about how often all of a fill is right. At 500
    places of reserved packages 93 % above 0.9, 78 % above 0.8, 71, 45, 41, 26 % and so on. The tokens of a line stand
    and fall together, so the product is too low; their mean forgets that one wrong token spoils all.
    """
    return math.prod(probabilities) ** 0.5


class Progress(msgspec.Struct, frozen=True):
    """A fill after some pass: what stays, and the canvas after it, with None where that is masked."""

    text: str
    pieces: tuple[TokenSpan, ...] = ()
    canvas: tuple[str | None, ...] = ()


Watch: TypeAlias = Callable[[Progress], None]
Output = TypeVar("Output", Fill, Progress)


def map_text(output: Output, change: Callable[[str], str]) -> Output:
    """The output with its text changed, and where its tokens end in that: one may end within what becomes a tab."""
    text = change(output.text)
    if text == output.text:
        return output
    ends = [*(len(change(output.text[: piece.end])) for piece in output.pieces), len(text)]
    pieces = tuple(piece._replace(end=min(ends[at:])) for at, piece in enumerate(output.pieces))
    return msgspec.structs.replace(output, text=text, pieces=pieces)


class Backend(Protocol):
    """What `Engine` needs of a model."""

    @property
    def reach(self) -> int: ...

    @property
    def parallel(self) -> int:
        """See Engine.parallel."""
        return 1

    def remember(self, megabytes: float) -> None:
        """See Engine.remember. Nothing is kept that has a size to be chosen."""
        return

    def fill(self, request: FillRequest, cancel: threading.Event, watch: Watch | None = None) -> Fill: ...

    def read(self, request: FillRequest, cancel: threading.Event) -> bool:
        """See Engine.read."""
        return True
