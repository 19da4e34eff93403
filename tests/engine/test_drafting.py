"""small's drafter as it is shipped: canvases are denoised and shown, and the text is what the model writes without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import Fill, FillRequest
from engine.backends.drafting import DraftRunner
from engine.contract import Progress
from engine.embedded import Embedded

TEXT = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8")
PLACES = range(200, len(TEXT), 300)


@pytest.fixture(scope="module")
def drafting() -> Iterator[Embedded]:
    """As on a machine where a row of a pass costs nothing, so that every draft pays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DraftRunner, "pays", lambda *_: True)
        patch.setattr("engine.backends.drafting.worthwhile", lambda together, *_: len(together))
        yield Embedded.load("small")


def fill(model: Embedded, place: int, shown: list[Progress] | None = None, drafts: bool = True) -> Fill:
    following = TEXT[TEXT.index("\n", place) :]
    asked = FillRequest(prefix=TEXT[:place], suffix=following, copies=False, max_lines=1, drafts=drafts)
    return model.fill(asked, threading.Event(), None if shown is None else shown.append)


def test_the_text_is_the_greedy_text_in_fewer_passes(drafting: Embedded) -> None:
    drafted, plain = ([fill(drafting, place, drafts=drafts) for place in PLACES] for drafts in (True, False))
    assert [made.text for made in drafted] == [made.text for made in plain]
    assert sum(made.passes for made in drafted) < 0.85 * sum(made.passes for made in plain)


def test_canvases_are_shown_before_they_are_verified(drafting: Embedded) -> None:
    shown = list[Progress]()
    made = fill(drafting, TEXT.index("return sum("), shown)
    assert any(token for each in shown for token in each.canvas)
    assert shown[-1].text == made.text


@pytest.mark.parametrize(("pays", "said"), [(True, "on"), (False, "off")])
def test_fills_say_whether_drafting_pays(pays: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DraftRunner, "pays", lambda *_: pays)
    assert fill(Embedded.load("small"), PLACES[0]).drafting == said
