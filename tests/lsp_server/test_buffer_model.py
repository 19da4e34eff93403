"""The buffer against a plain string, by a model that hypothesis drives and shrinks.

5,000 edits in the suite; `EDITS=1000000 python -m pytest tests/lsp_server/test_buffer_model.py` makes a million.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from test_buffers import ENCODINGS, PIECES, reference_lines, reference_offset

from lsp_server.buffers import Buffer, Point, unix

EDITS = int(os.environ.get("EDITS", "5000"))
LONGEST = 300  # characters, so that the reference stays cheap
ROUND = settings(
    max_examples=100,
    stateful_step_count=100,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

texts = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
positions = st.tuples(st.integers(-1, 60), st.integers(-1, 12))


class Editing(RuleBasedStateMachine):
    made = 0  # edits, in all runs

    @initialize(text=st.lists(st.sampled_from(PIECES), max_size=60).map("".join), encoding=st.sampled_from(ENCODINGS))
    def open(self, text: str, encoding: str) -> None:
        self.text, self.encoding, self.buffer = text, encoding, Buffer(text, encoding)

    def offset(self, position: tuple[int, int]) -> int:
        return reference_offset(self.text, max(position[0], 0), max(position[1], 0), self.encoding)

    @rule(one=positions, other=positions, new=texts)
    def edit(self, one: tuple[int, int], other: tuple[int, int], new: str) -> None:
        Editing.made += 1
        start, end = sorted((one, other), key=self.offset)
        if len(self.text) > LONGEST:
            end = (60, 0)
        self.buffer.edit(self.buffer.point(*start), self.buffer.point(*end), new)
        self.text = self.text[: self.offset(start)] + new + self.text[self.offset(end) :]
        assert self.buffer.lines == reference_lines(self.text)
        assert len(self.buffer) == len(self.buffer.lines)

    @rule(new=texts)
    @precondition(lambda self: len(self.text) > LONGEST // 2)
    def replace(self, new: str) -> None:
        for _ in self.buffer.replace([new]):
            pass
        self.text = new
        assert self.buffer.lines == reference_lines(new)

    @rule(position=positions, limit=st.integers(1, 40))
    def look(self, position: tuple[int, int], limit: int) -> None:
        place = self.buffer.point(*position)
        offset = self.offset(position)
        assert Point(*place) == place
        assert self.buffer.after(place, limit) == unix(self.text[offset:][:limit])
        assert unix(self.text[:offset]).endswith(self.buffer.before(place, limit))


def test_edits() -> None:
    Editing.made = 0
    while Editing.made < EDITS:
        run_state_machine_as_test(Editing, settings=ROUND)
