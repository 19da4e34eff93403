"""What is shown of a fill, and when nothing is."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from test_cache import a_guess

from engine import Fill
from engine.evaluation.places import Place
from lsp_server.cursor import CursorContext
from lsp_server.feedback import Feedback
from lsp_server.gate import FEATURES, MOST_SHIFT, NEAR, BoostedTrees, Gate, cut_points, decide, shift
from lsp_server.learning.__main__ import LIMITS, held_out
from lsp_server.learning.boosting import booster, fit
from lsp_server.learning.card import card, reliability
from lsp_server.learning.policy import KeyNote, Typed, odds_of, play
from lsp_server.settings import Settings

GAP = CursorContext("total = 0\n", "\n", "python")
SUM = FEATURES.index("sum")
BY_SUM = BoostedTrees(  # log-odds of +3 where the tokens' log-probabilities sum to more than -0.5, else of -3
    features=list(FEATURES),
    start=0.0,
    depth=1,
    feature=[[SUM, 0, 0]],
    threshold=[[-0.5, 0, 0]],
    left=[[1, 1, 2]],
    right=[[2, 1, 2]],
    value=[[0, -3.0, 3.0]],
    prices={"quiet": 40.0, "balanced": 10.0, "eager": 1.0},
)
FILL = a_guess(("return", 0.95), (" total", 0.9), (".", 0.3), ("sum", 0.9), ("()", 0.9))


def ends(fill: Fill, text: str) -> list[str]:
    return [text[: cut.end] for cut in cut_points(fill, text, GAP)]


def test_a_fill_is_cut_where_words_end() -> None:
    assert ends(FILL, FILL.text) == [
        "return",
        "return total",
        "return total.",
        "return total.sum",
        "return total.sum()",
    ]
    split = a_guess(("ret", 0.9), ("urn", 0.9), (" x", 0.9))
    assert ends(split, split.text) == ["return", "return x"]
    assert ends(FILL, "return to") == ["return", "return to"]  # what the filters left of it
    assert all(len(cut.features) == len(FEATURES) for cut in cut_points(FILL, FILL.text, GAP))


def test_names_that_stand_nowhere_else_are_counted() -> None:
    far = "widths = []\n" + "# …\n" * NEAR
    gap = CursorContext(far + "def total(items):\n    return ite", "\n\n\nheights = []\n", "python")
    fill = a_guess(("ms", 0.9), (" + widths", 0.9), (" + heights", 0.9), (" + lengths", 0.9))
    found = [dict(zip(FEATURES, cut.features, strict=True)) for cut in cut_points(fill, fill.text, gap)]
    counted = ("names", "new names", "new last", "far names")
    assert [[cut[name] for name in counted] for cut in found] == [
        [1, 0, 0, 0],
        [2, 0, 0, 1],
        [3, 0, 0, 2],
        [4, 1, 1, 3],
    ]


def test_a_suggestion_ends_where_its_benefit_does() -> None:
    made = list(cut_points(FILL, FILL.text, GAP))
    assert Gate(BY_SUM).chosen(made, FILL.text, 10.0).text == "return total"
    assert Gate(BY_SUM).chosen(made, FILL.text, 400.0).text == ""
    assert Gate(BY_SUM).chosen(made, FILL.text, 400.0, shift=5.0).text == "return total"


@pytest.mark.parametrize("origin", [None, BY_SUM])
def test_trees_say_what_the_library_says(origin: BoostedTrees | None) -> None:
    dice = np.random.default_rng(0)
    rows = dice.normal(size=(400, len(FEATURES)))
    right = rows[:, 0] + rows[:, 1] * rows[:, 2] + dice.normal(size=400) > 0
    trees = fit([KeyNote(0, [""], row[None], np.array([hit])) for row, hit in zip(rows, right, strict=True)], origin)
    ours = Gate(trees).log_odds(rows)
    model = booster(origin).fit(rows, right)
    assert np.allclose(ours, model.decision_function(rows), atol=1e-3)
    assert msgspec.json.decode(msgspec.json.encode(trees), type=BoostedTrees) == trees


def test_the_shipped_gate_tells_sure_from_doubtful() -> None:
    gate = Gate.load("small")
    assert gate.prices["quiet"] > gate.prices["balanced"] > gate.prices["eager"]
    sure, doubtful = (a_guess(("return", p), (" total", p), ("(x)", p)) for p in (0.97, 0.4))
    rows = [[*cut_points(fill, fill.text, GAP)][-1].features for fill in (sure, doubtful)]
    odds = gate.log_odds(np.array(rows))
    assert odds[0] > 0 > odds[1]


def shown(fill: Fill, invoked: bool = False, **options: object) -> str:
    return decide(fill, GAP, Settings(**options), invoked, Feedback(), None).text  # type: ignore[arg-type]


def test_who_asks_or_sets_a_threshold_passes_no_gate() -> None:
    doubtful = a_guess(("total", 0.6), (" += 1", 0.5))
    assert shown(doubtful, invoked=True) == doubtful.text
    assert shown(doubtful, min_confidence=0.5) == doubtful.text
    assert shown(doubtful, min_confidence=0.6) == ""
    silent = msgspec.structs.replace(doubtful, pieces=())  # a model that says nothing of its tokens
    assert shown(silent) == doubtful.text
    assert shown(msgspec.structs.replace(silent, confidence=0.4)) == ""


def test_the_dial_goes_from_quiet_to_eager() -> None:
    fills = [a_guess(("total", p), (" += 1", p)) for p in np.linspace(0.3, 0.99, 30)]
    counts = [sum(bool(shown(fill, show=dial)) for fill in fills) for dial in ("quiet", "balanced", "eager")]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_what_is_accepted_moves_the_chances_a_little() -> None:
    assert shift([]) == shift([(0.5, 0.0)] * 40) == 0.0  # nothing accepted ever: a client that does not tell
    assert shift([(0.5, 1.0)] * 4) > 0
    assert shift([(0.9, 1.0)] + [(0.9, 0.0)] * 9) < 0
    assert abs(shift([(0.01, 1.0)] * 1_000)) <= MOST_SHIFT
    assert shift([(0.9, 0.0)] * 1_000 + [(1.0, 1.0)] * 40) == pytest.approx(0.0)  # the last ones count


def test_the_feedback_knows_how_it_went() -> None:
    feedback = Feedback()
    first = feedback.show("a", "x", "python", 0.5, 1.0, line=1)
    assert (feedback.tried(1), feedback.tried(2)) == (1, 0)
    feedback.show("a", "x", "python", 0.5, 1.0, line=1)
    feedback.show("b", "x", "python", 0.6, 1.0, line=1)
    assert feedback.tried(1) == 2
    feedback.note(first, "partlyAccepted", 3)
    assert feedback.judged() == [(0.5, 0.5)]  # of the newest it is too early to say
    third = feedback.show("c", "x", "python", 0.7, 1.0, line=2)
    feedback.note(third, "accepted")
    assert feedback.tried(2) == 0
    feedback.show("d", "x", "python", 0.8, 1.0, line=3)
    assert feedback.judged() == [(0.5, 0.5), (0.6, 0.0), (0.7, 1.0)]
    feedback.reset()
    assert feedback.judged() == []


def test_a_policy_is_played_on_notes() -> None:
    place = Place("a.py", "python", "x = 0\n", "return total", "\n")
    rows = np.zeros((1, len(FEATURES)))
    rows[0, SUM] = -0.1
    doubtful = rows.copy()
    doubtful[0, SUM] = -2.0
    keys = [
        KeyNote(0, ["raise"], doubtful, np.array([False])),
        KeyNote(1, ["eturns"], rows.copy(), np.array([False])),
        KeyNote(2, ["turn total"], rows.copy(), np.array([True])),
        KeyNote(3, ["urn total"], rows.copy(), np.array([True])),
    ]
    notes = [Typed("p", place, keys)]
    played = play(notes, odds_of(notes, Gate(BY_SUM)), 1.0)
    assert played.precision == 0.5
    assert played.wrong == 1.0
    assert played.ratio == (len("turn total")) / len("return total")
    assert [key.at for key in played.visited] == [0, 1, 2]
    assert played.visited[2].features[0, FEATURES.index("tried")] == 1
    assert [right for _, right in played.judged] == [False, False, True]
    written = card(
        "tiny", None, notes, LIMITS, dict.fromkeys(LIMITS, 1.0), dict.fromkeys(LIMITS, played), {"python": played}
    )
    assert f"| python | 1 | 1 | {10 / 12:.3f} | 0.50 | 2.00 | 1.00 |" in written
    assert "| quiet | 1.0 | 0.68 | 0.3 | 0.833 |" in written


def test_what_judges_a_package_has_not_seen_it() -> None:
    place = Place("a.py", "python", "", "x", "")
    key = KeyNote(0, ["x"], np.zeros((1, len(FEATURES))), np.array([True]))
    notes = [Typed(package, place, [key]) for package in "abcdefab"]
    learned_of: list[set[str]] = []

    def learn(part: Sequence[Typed]) -> BoostedTrees:
        learned_of.append({typed.package for typed in part})
        return BY_SUM

    ordered, odds = held_out(notes, learn)
    assert sorted(typed.package for typed in ordered) == sorted("abcdefab")
    assert len(odds) == len(notes)
    assert [set("abcdef") - packages for packages in learned_of] == [{"a", "e"}, {"b", "f"}, {"c"}, {"d"}]


def test_chances_are_held_against_what_was_right() -> None:
    rows, off = reliability(np.array([0.95, 0.95, 0.25, 0.25]), np.array([1.0, 0.0, 0.0, 0.0]))
    assert off == pytest.approx(0.5 * 0.45 + 0.5 * 0.25)
    assert rows == ["| 0.2 to 0.3 | 2 | 0.250 | 0.000 |", "| 0.9 to 1.0 | 2 | 0.950 | 0.500 |"]
