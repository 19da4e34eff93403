"""What became of the completions: counts, kept in this process and sent nowhere."""

from __future__ import annotations

import msgspec

ACCEPTED = "inpaint.accepted"  # the command that a client runs after it inserted a completion


class Feedback(msgspec.Struct):
    """How many completions were sent to the editor, and how many of these the user took."""

    shown: int = 0
    accepted: int = 0
