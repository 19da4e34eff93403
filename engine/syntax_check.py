"""Whether a text can stand in its place, as far as parsers tell, and how to begin one that can.

Small models hardly look at what follows: they write `return total` above a deeper line, close brackets that nothing
opens, and leave without a value the names that the lines below use. So a fill is put in its place and the function
around it parsed: it has to be Python, nothing of its block may stand behind what leaves it, and the names below have to
come from somewhere. Among the few likeliest lines that begin otherwise, or with the name that is wanted, there often
is the right one.

Where blocks have braces a tolerant parser counts errors (see `syntax`): no line may leave more of them than a bracket,
or nothing, would in its place.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from engine.contract import Fill, FillRequest
from engine.languages import language_of
from engine.prompt import after_cursor
from engine.syntax import BYTES, GRAMMARS, Around, Unknown, around_of, budget, late, misplaced, needed
from engine.tabs import head_of

CANNOT, CAN, FITS = range(3)  # stand there: for sure not; yes, but something is wanted; as far as can be told
LINES, LONGEST = 200, 400  # of the function around, a longer one is not parsed; characters of a line
UNIT = 4  # blanks at most
ROUNDS = 3  # of beginnings without words
MANY = 3  # names: where more come from nowhere, not all that gives a value has been seen
STATEMENTS = ("pass", "if True:")
PARTS = ("try:", "else:", "except Exception:")  # of a statement that is around
PYTHON = re.compile(r"^ *(async |class |def |elif |else|except|for |if |try|while |with ).*:$", re.MULTILINE)
DEFINITION = re.compile(r"( *)(?:async )?def (\w+)")
UNUSED = (ast.Name, ast.Compare, ast.UnaryOp)  # values, if they are a statement
LEAVES = re.compile(r" *(return|raise|break|continue)\b")
NAME = re.compile(r"[^\W\d]\w*")
GIVEN = re.compile(r"\w+(, \w+)* =(?!=)|\bfor [^()]+ in\b|\bas \w+|^ +\w+(?=[:,)=])")  # a value
CLOSERS = (")", "]", "}")
GOES_ON = ("(", "[", "{", ",", "\\", "=", "+", " and", " or")
BUILT_IN = frozenset([*dir(builtins), "__class__", "__doc__", "__file__", "__name__"])


class Place(NamedTuple):
    """Where a fill is to stand: the lines above and below in the function around it, or in the module.

    `head` and `rest` are the cursor's line left and right of it; where `own_line`, a line is missing between the two.
    `around` are the file's other lines.
    """

    above: str
    head: str
    rest: str
    below: str
    own_line: bool
    around: str


def language_at(request: FillRequest) -> str:
    """Of its file, or of its text where that has no name."""
    if request.path:
        return language_of(request.path)
    return "python" if PYTHON.search(request.prefix) else ""


def verdict(request: FillRequest, fill: Fill) -> int:
    """CANNOT, CAN or FITS. FITS too in languages without a parser here, within a line, whose beginning says what it is,
    where a limit ended the fill, or the lines around are no Python themselves, and where it takes too long to tell.
    """
    try:
        with budget(language_at(request)):
            return _verdict(request, fill)
    except Unknown:
        return FITS


def _verdict(request: FillRequest, fill: Fill) -> int:
    head, language = head_of(request.prefix), language_at(request)
    if not fill.complete or head.strip() or language not in GRAMMARS:
        return FITS
    if language != "python":
        line = f"{head}{fill.text}{after_cursor(request.prefix, request.suffix)[0]}".rstrip()
        return CANNOT if misplaced(_around(request, language), line) else FITS
    if (place := place_of(request.prefix, request.suffix)) is None:
        return FITS
    line = f"{place.head}{fill.text}{place.rest}".rstrip()
    last, above, below = line[line.rfind("\n") + 1 :], _last(place.above), _first(place.below)
    if not place.own_line and _goes_on(line, last):
        return FITS
    if (wanted := names_wanted(place, line)) is None:
        return CANNOT if openings(place) else FITS
    if line:
        if _pointless(place, line):
            return CANNOT
        behind = LEAVES.match(above) and _depth(above) == _depth(line)
        before = LEAVES.match(last) and below and _depth(below) == _depth(last)
        if behind or before or last == below.rstrip():
            return CANNOT
    return CAN if 0 < len(wanted) <= MANY or (place.own_line and not line) else FITS


def _pointless(place: Place, line: str) -> bool:
    """Whether it begins the function around again, or computes what nobody gets."""
    head, again = DEFINITION.match(place.above), DEFINITION.match(line)
    if head is None:  # a cell of a notebook shows what its last line is
        return False
    if again and again[2] == head[2]:
        return not _last(place.above).lstrip().startswith("@")  # it may be overloaded
    tree, first = _parsed(place, line), _row(place)
    rows = range(first, first + line.count("\n") + 1)
    statements = (each for each in ast.walk(tree) if isinstance(each, ast.Expr)) if isinstance(tree, ast.AST) else ()
    return any(each.lineno in rows and isinstance(each.value, UNUSED) for each in statements)


def _row(place: Place) -> int:
    """The cursor's line in what is parsed."""
    return place.above.count("\n") + 1 + place.above.startswith(" ")


def _around(request: FillRequest, language: str) -> Around:
    """A line that is missing before another one has one of its own. Below is enough for blocks to be closed there, or a
    bracket would seem to be wanted.
    """
    own_line = after_cursor(request.prefix, request.suffix)[1]
    return around_of(request.prefix, f"\n{request.suffix}" if own_line else request.suffix, language, LINES)


@lru_cache(maxsize=4)
def place_of(prefix: str, suffix: str) -> Place | None:
    """None where the function is too long, or outside of one no beginning of a statement is near. Raises Unknown."""
    rest, own_line, following = after_cursor(prefix, suffix)
    *above, head = prefix.split("\n")
    below = following.split("\n")
    depth = _depth(head) or min(filter(None, (_depth(_last(prefix)), _depth(_first(following)))), default=0)
    near = range(max(0, len(above) - LINES), len(above))
    start = None
    for number in reversed(near):
        if (line := above[number].lstrip()) and not line.startswith("#"):
            found = DEFINITION.match(above[number])
            if found and len(found[1]) < depth:
                start = number
                break
            depth = min(depth, _depth(above[number]))
    if start is None:
        tops = (number for number in near if above[number][:1].strip() and above[number][0] not in CLOSERS)
        start, end = next(tops, None if near else 0), LINES // 2
        if start is None:
            return None
    else:
        margin = _depth(above[start])
        leaves = (number for number, line in enumerate(below) if line.strip() and _depth(line) <= margin)
        end = next((n for n in leaves if below[n].lstrip()[0] not in CLOSERS), len(below))
        if len(above) - start + end > LINES:
            return None
    around = "\n".join([*above[:start], *below[end:]])
    place = Place("\n".join([*above[start:], ""]), head, rest, "\n".join(below[:end]), own_line, around)
    if sum(map(len, place[:4])) > BYTES // 2:
        raise Unknown
    return place


@lru_cache(maxsize=4)
def _names(lines: str) -> frozenset[str]:
    """Those that a function may have from lines around it: all but what only other functions give a value."""
    names: set[str] = set()
    inner: set[str] = set()
    given: set[str] = set()
    margin: int | None = None  # of another function whose lines these are
    for whole in lines.split("\n"):
        line = whole[:LONGEST]
        if margin is not None and (not line.strip() or _depth(line) > margin or line.lstrip()[0] in CLOSERS):
            inner.update(NAME.findall(line))
            given.update(*(NAME.findall(found.group()) for found in GIVEN.finditer(line)))
            continue
        defined = DEFINITION.match(line)
        margin = defined and len(defined[1])
        head, _, parameters = line.partition("(") if defined else (line, "", "")
        names.update(NAME.findall(head))
        given.update(NAME.findall(parameters))
    return frozenset(names | (inner - given))


@lru_cache(maxsize=1)
def _parsed(place: Place, line: str) -> ast.Module | SyntaxError | None:
    """The lines with that one, None where the parser gives up. A block that may still be written stands for itself.
    Raises Unknown.
    """
    if late():
        raise Unknown
    last = line[line.rfind("\n") + 1 :]
    if _opens(last) and not place.own_line and _depth(_first(place.below)) <= _depth(last):
        indent, block = " " * _depth(last), f"\n{' ' * (_depth(last) + 1)}pass"
        line = f"{line}{block}\n{indent}finally:{block}" if last.strip() == "try:" else line + block
    source = f"{place.above}{line}{place.below}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return ast.parse(("if True:\n" if source.startswith(" ") else "") + source)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=64)
def names_wanted(place: Place, line: str) -> tuple[str, ...] | None:
    """The names from the cursor's line on that nothing gives a value if that is the line, in the order of their use;
    None where it is no Python then; none where the lines above are none already. A block that may still be written
    stands for itself.
    """
    tree = _parsed(place, line)
    if isinstance(tree, SyntaxError):
        return None if (tree.lineno or 0) >= _row(place) else ()
    if tree is None:
        return ()
    given, used = set(BUILT_IN), dict[str, tuple[int, int]]()
    nodes = list(ast.walk(tree))
    changed = {id(node.target) for node in nodes if isinstance(node, ast.AugAssign)}  # what has to have a value
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) if id(node) not in changed:
                given.add(name)
            case ast.Name(id=name, lineno=row, col_offset=column):
                used[name] = min((row, column), used.get(name, (row, column)))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                given.add(name)
            case ast.arg(arg=name):
                given.add(name)
            case ast.alias(name=name, asname=other):
                given.add((other or name).partition(".")[0])
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                given.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                given.update(names)
    wanted = used.keys() - given - set(NAME.findall(place.above))
    if wanted:
        wanted -= _names(place.around)
    return tuple(sorted(wanted, key=used.__getitem__))


@lru_cache(maxsize=4)
def openings(place: Place) -> dict[str, list[int]]:
    """The statements that can stand there, and how deep each."""
    depths = [_depth(place.head)] if place.head else _depths(place)
    for statements in (STATEMENTS, PARTS):
        found = {
            statement: [depth for depth in depths if names_wanted(place, " " * depth + statement) is not None]
            for statement in statements
        }
        if any(found.values()):
            return {statement: depths for statement, depths in found.items() if depths}
    return {}


def _depths(place: Place) -> list[int]:
    """How deep a line can be there; likeliest as deep as the next one."""
    above, below, margin = _last(place.above), _depth(_first(place.below)), _depth(place.above)
    lines = f"{place.above}{place.below}".split("\n")
    unit = min([UNIT, *(_depth(line) - margin for line in lines if line.strip() and _depth(line) > margin)])
    most = _depth(above) + unit * _opens(above) - unit * bool(LEAVES.match(above))
    least = margin + 1 if below and DEFINITION.match(place.above) else 0
    return [depth for depth in dict.fromkeys((below, below - unit, most)) if least <= depth <= most]


def beginnings(request: FillRequest) -> Iterator[str]:
    """What a fill could begin with to stand there, likeliest first; the same again for yet another one. Nothing where
    it takes too long to tell.
    """
    with contextlib.suppress(Unknown):
        with budget(language_at(request)):
            found = list(_beginnings(request))
        yield from found


def _beginnings(request: FillRequest) -> Iterator[str]:
    language = language_at(request)
    if language != "python":
        yield from (form for form in needed(_around(request, language)) if form in CLOSERS)
        yield from [""] * ROUNDS
        return
    place = place_of(request.prefix, request.suffix)
    if place is None:
        return
    found = openings(place)
    blank = {depth: "" if place.head else " " * depth for depths in found.values() for depth in depths}
    plain, opening = (found.get(statement, [])[:1] for statement in STATEMENTS)
    lines = (" " * depth + statement for statement, depths in found.items() for depth in depths)
    if wanted := min((names_wanted(place, line) or () for line in lines), key=len, default=()):
        called = next((name for name in wanted if re.search(rf"\b{name}\(", place.below)), None)
        if plain:
            yield blank[plain[0]] + (wanted[0] if wanted[1:] else f"{wanted[0]} =")
        elif opening:
            yield blank[opening[0]] + (f"def {called}(" if called else f"for {', '.join(wanted[:2])} in")
    for part in PARTS:
        for depth in found.get(part, []):
            yield blank[depth] + NAME.findall(part)[0]
    yield from [*blank.values()] * ROUNDS


def begun(request: FillRequest, beginning: str, texts: Sequence[str]) -> FillRequest:
    """The request after a beginning, and otherwise than fills that begin so."""
    own_line = after_cursor(request.prefix, request.suffix)[1]
    others = (text.removeprefix(beginning) for text in (*request.others, *texts) if text.startswith(beginning))
    return msgspec.structs.replace(
        request,
        prefix=request.prefix + beginning,
        suffix=f"\n{request.suffix}" if own_line else request.suffix,
        others=tuple(text.rstrip() for text in others),
    )


def with_beginning(beginning: str, fill: Fill, request: FillRequest) -> Fill:
    """A fill of what `begun` asked for, as one of the request."""
    text = beginning + fill.text
    if after_cursor(request.prefix, request.suffix)[1]:
        text = text.rstrip("\n") + "\n"
    pieces = tuple(piece._replace(end=min(len(text), piece.end + len(beginning))) for piece in fill.pieces)
    return msgspec.structs.replace(fill, text=text, pieces=pieces)


def _goes_on(text: str, last: str) -> bool:
    """Whether a text may go on after its last line: in brackets, a docstring, below a decorator."""
    quoted = any(text.count(quotes) % 2 for quotes in ('"""', "'''"))
    return quoted or text.endswith(GOES_ON) or last.lstrip().startswith(("#", "@"))


def _opens(line: str) -> bool:
    return line.partition(" #")[0].rstrip().endswith(":")


def _first(text: str) -> str:
    return next((line for line in text.split("\n") if line.strip()), "")


def _last(text: str) -> str:
    return next((line for line in reversed(text.split("\n")) if line.strip()), "")


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
