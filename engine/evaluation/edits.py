"""Next edits over git histories: a commit's small edits are made one after the other, and each offer is compared with
what the commit has in its place.

Of a file the hunks come from the top down, or shuffled. Of those that replace lines by as many, each line is an edit;
the others change the text at once. An offer is right where the commit's line is the same but for blanks; then it is
taken, and else rejected. Where nothing is due, after a file's last edit and while one is half typed, all offers are
wrong. Commits with many offers would decide all: figures are of those with few, and of the mean over these.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from engine.contract import EngineError
from engine.evaluation.report import Times, share, times
from engine.languages import NAMES, language_of
from engine.next_edit.replay import EditOffer, LineEdit, SettledEdit, propose
from engine.next_edit.substitution import Replacement, Substitution, solid, substitution
from engine.syntax import errors_of

FEW = 20  # offers of a commit
FILES = 30  # of a commit; who changes more does so by a program
LINES = 20_000  # of a file
DRAWS = 1_000  # of the bootstrap
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class Hunk(msgspec.Struct):
    """The lines that a commit puts in the place of others; `start` is the first one's, from 0."""

    start: int
    old: list[str]
    new: list[str]


class Piece(msgspec.Struct):
    """Lines of a file that change at once: as they are, as they will be where they change, as they were."""

    now: list[str]
    then: list[str] | None = None
    was: list[str] = []


class Tally(msgspec.Struct):
    """What was counted; `events` by commit, `offers` are commit, kind, whether right."""

    events: Counter[str] = msgspec.field(default_factory=Counter)
    offers: list[tuple[str, str, bool]] = []
    reversals: int = 0
    blank: int = 0
    broken: int = 0  # offers with a new parse error
    quiet: int = 0  # asked where nothing is due
    loud: int = 0  # and offered all the same
    ms: list[float] = []


class EditFigures(msgspec.Struct):
    """Of commits with few offers, but for what is `of_many`. Shares are in [0, 1], the two of exact offers with the
    bounds of 95 % over commits drawn anew; `hits` and `wrong` are offers of 100 edits.
    """

    edits: int
    edits_of_many: int
    commits: int
    offers: int
    offers_of_many: int
    pooled: tuple[float, float, float]
    by_commit: tuple[float, float, float]
    hits: float
    wrong: float
    kinds: dict[str, tuple[int, float]]
    silent: float
    reversals: int
    blank: int
    broken: int
    ms: Times


def evaluate(histories: list[Path], most: int, shuffled: bool = False) -> EditFigures:
    """Over the newest commits, so many of each history. Raises EngineError where one is none."""
    tally = Tally()
    for history in histories:
        for commit, files in commits(history, most):
            if len(files) <= FILES:
                session = EditingSession(tally, commit, random.Random(commit) if shuffled else None)
                for path, hunks in files.items():
                    before = git(history, "cat-file", "blob", f"{commit}^:{path}")
                    lines = [line.removesuffix("\r") for line in before.split("\n")]
                    if len(lines) <= LINES:
                        session.work(path, pieces(lines, hunks))
    if not tally.events:
        raise EngineError("these histories have no small edit of a source file")
    return figures(tally)


class EditingSession:
    """One commit, of which the edits are made."""

    def __init__(self, tally: Tally, commit: str, dice: random.Random | None) -> None:
        self.tally, self.commit, self.dice = tally, commit, dice
        self.path, self.pieces, self.todo = "", list[Piece](), list[Piece]()
        self.made: list[tuple[str, Piece, Substitution]] = []
        self.muted: set[Replacement] = set()

    def work(self, path: str, pieces: list[Piece]) -> None:
        """Make all edits of a file."""
        self.path, self.pieces = path, pieces
        self.todo = [piece for piece in pieces if piece.then is not None]
        if self.dice:
            self.dice.shuffle(self.todo)
        while self.todo:
            piece: Piece | None = self.todo[0]
            while piece:
                piece = self.make(piece)

    def make(self, piece: Piece) -> Piece | None:
        """Make an edit and ask. Returns where it is taken."""
        self.todo = [each for each in self.todo if each is not piece]
        assert piece.then is not None
        then, piece.then, piece.was = piece.then, None, [*piece.was, *piece.now]
        made = substitution(piece.now[0], then[0]) if len(piece.now) == len(then) == 1 else None
        if made is None:
            piece.now = then
            return None
        self.type_half(piece, then[0], made)
        piece.now = then
        self.tally.events[self.commit] += 1
        self.made.append((self.path, piece, made))
        offer, place, row = self.ask()
        self.note_quiet(offer, not self.todo)
        return self.judge(offer, place, row) if isinstance(offer, EditOffer) and place else None

    def type_half(self, piece: Piece, line: str, made: Substitution) -> None:
        """Ask with half of what comes."""
        half = made.new[: len(made.new) // 2]
        at = line.find(made.new)
        begun = line[:at] + half + line[at + len(made.new) :]
        halved = substitution(piece.now[0], begun) if half.strip() and at >= 0 else None
        if halved:
            whole, piece.now = piece.now, [begun]
            self.made.append((self.path, piece, halved))
            self.note_quiet(self.ask()[0], True)
            self.made.pop()
            piece.now = whole

    def note_quiet(self, answer: object, nothing_due: bool) -> None:
        self.tally.quiet += nothing_due
        self.tally.loud += nothing_due and isinstance(answer, EditOffer)

    def ask(self) -> tuple[object, Piece | None, int]:
        """The answer, the piece that an offer is for, and the line of it."""
        lines, starts, owners = list[str](), dict[int, int](), list[Piece]()
        for piece in self.pieces:
            starts[id(piece)] = len(lines)
            lines += piece.now
            owners += [piece] * len(piece.now)
        settled = [SettledEdit(path, starts.get(id(piece), -1), made) for path, piece, made in self.made[-20:]]
        text = "\n".join(lines)
        started = time.perf_counter()
        answer = propose(settled, text, language_of(self.path), self.muted)
        self.tally.ms.append((time.perf_counter() - started) * 1000)
        if not isinstance(answer, EditOffer):
            return answer, None, 0
        change = answer.changes[0]
        self.check(lines, change)
        owner = owners[change.line]
        return answer, owner, change.line - starts[id(owner)]

    def check(self, lines: list[str], change: LineEdit) -> None:
        """Note new parse errors of the whole file, and what changes nothing but blanks."""
        then = [*lines]
        then[change.line] = applied(change, lines[change.line])
        before, after = (errors_of("\n".join(each), language_of(self.path)) for each in (lines, then))
        self.tally.broken += after > before
        self.tally.blank += solid(then[change.line]) == solid(lines[change.line])

    def judge(self, offer: EditOffer, piece: Piece, row: int) -> Piece | None:
        """Take an offer that is right, reject another. Returns the piece where it was taken."""
        made = applied(offer.changes[0], piece.now[row])
        right = any(solid(made) == solid(line) for line in piece.then or ())
        self.tally.offers.append((self.commit, kind(offer.what), right))
        self.tally.reversals += made in piece.was
        if not right:
            self.muted.add(offer.what)
        return piece if right else None


def applied(change: LineEdit, line: str) -> str:
    return line[: change.start] + change.text + line[change.end :]


def kind(what: Replacement) -> str:
    old, new = what
    if old.isidentifier() and new.isidentifier():
        return "name"
    return "replacement" if old and new else "deletion" if old else "insertion"


def pieces(lines: list[str], hunks: list[Hunk]) -> list[Piece]:
    """The file as what changes at once."""
    made, at = list[Piece](), 0
    for hunk in hunks:
        made += [Piece([line]) for line in lines[at : hunk.start]]
        if len(hunk.old) == len(hunk.new):
            made += [Piece([old], [new]) for old, new in zip(hunk.old, hunk.new, strict=True)]
        else:
            made.append(Piece(hunk.old, hunk.new))
        at = hunk.start + len(hunk.old)
    return made + [Piece([line]) for line in lines[at:]]


def figures(tally: Tally) -> EditFigures:
    offers = defaultdict[str, list[tuple[str, bool]]](list)
    for commit, name, right in tally.offers:
        offers[commit].append((name, right))
    few = [each for each in offers.values() if len(each) <= FEW]
    shown = [offer for each in few for offer in each]
    kinds = {name: [right for each, right in shown if each == name] for name, _ in sorted(shown)}
    verdicts = [[right for _, right in each] for each in few]
    many = sum(tally.events[commit] for commit, each in offers.items() if len(each) > FEW)
    hits, wrong = (sum(right is which for _, right in shown) for which in (True, False))
    return EditFigures(
        edits=tally.events.total(),
        edits_of_many=many,
        commits=len(few),
        offers=len(shown),
        offers_of_many=len(tally.offers) - len(shown),
        pooled=bounded(verdicts, pooled),
        by_commit=bounded(verdicts, by_commit),
        hits=100 * hits / (tally.events.total() - many),
        wrong=100 * wrong / (tally.events.total() - many),
        kinds={name: (len(each), share(each)) for name, each in kinds.items()},
        silent=1 - tally.loud / tally.quiet,
        reversals=tally.reversals,
        blank=tally.blank,
        broken=tally.broken,
        ms=times(tally.ms),
    )


def pooled(commits: Sequence[list[bool]]) -> float:
    return share(right for each in commits for right in each)


def by_commit(commits: Sequence[list[bool]]) -> float:
    return sum(map(share, commits)) / max(1, len(commits))


def bounded(commits: list[list[bool]], figure: Callable[[Sequence[list[bool]]], float]) -> tuple[float, float, float]:
    """A figure, and the bounds of 95 % of it over commits drawn anew (Efron, Bootstrap methods, 1979)."""
    dice = random.Random(0)
    drawn = sorted(figure(dice.choices(commits or [[]], k=len(commits))) for _ in range(DRAWS))
    return figure(commits), drawn[DRAWS * 25 // 1000], drawn[DRAWS * 975 // 1000]


# ---------------------------------------------------------------- git


def commits(history: Path, most: int) -> Iterator[tuple[str, dict[str, list[Hunk]]]]:
    """The newest commits that are no merges, each with the hunks of the files that it changes."""
    log = ["log", "-p", "-U0", "--no-merges", "-M", "--no-color", "--no-ext-diff", f"-n{most}", "--format=commit %H"]
    commit, path, files, hunk, left = "", "", dict[str, list[Hunk]](), Hunk(0, [], []), [0, 0]
    for line in git(history, *log, "HEAD", "--", *(f"*{suffix}" for suffix in NAMES)).split("\n"):
        if any(left) and line[:1] in ("-", "+"):
            added = line[0] == "+"
            (hunk.new if added else hunk.old).append(line[1:].removesuffix("\r"))
            left[added] -= 1
        elif line.startswith("commit "):
            if files:
                yield commit, files
            commit, files, path = line[7:], {}, ""
        elif line.startswith("--- "):
            path = line[6:].rstrip("\t") if line.startswith("--- a/") else ""
        elif line == "+++ /dev/null":
            path = ""
        elif path and (found := HUNK.match(line)):
            start, old, new = (int(each) if each else 1 for each in found.groups())
            hunk, left = Hunk(start - (old > 0), [], []), [old, new]
            files.setdefault(path, []).append(hunk)
    if files:
        yield commit, files


def git(history: Path, *arguments: str) -> str:
    """What git prints. Raises EngineError where the folder has no history."""
    try:
        done = subprocess.run(["git", "--git-dir", history, *arguments], capture_output=True, check=True)
    except FileNotFoundError:
        raise EngineError("git is missing: install it to read histories") from None
    except subprocess.CalledProcessError:
        raise EngineError(f"{history} is no git history: name a bare repository, or the .git of a clone") from None
    return done.stdout.decode("utf-8", "replace")
