"""Text from elsewhere, a server's or another file's, without what nobody sees: it would be inserted with the rest,
shown in another order than it is in, or obeyed by a terminal.
"""

from __future__ import annotations

import re

UNSEEN = re.compile(
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # what a terminal obeys: its title, links, the clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, the cursor
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]"  # control characters but tabs and line ends
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # which way text runs (Trojan Source, CVE-2021-42574)
    r"|[\xad\u115f\u1160\u180e\u200b\u200c\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
    "|(?<![\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d"  # of no width, but where it joins emoji
)


def plain(text: str) -> str:
    """That of a beginning is the beginning of that of the whole."""
    return UNSEEN.sub("", text)
