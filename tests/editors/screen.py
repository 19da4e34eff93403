"""What Neovim draws, from the events of its user interface protocol: cells with highlights, and every frame.

A frame is the grid as of a `flush`: exactly what a user could have seen.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, NamedTuple

CELL_WIDTH, CELL_HEIGHT = 8.4, 18  # of a 14 px monospaced font


class Cell(NamedTuple):
    """One column of the grid; the text is empty right of a character of double width."""

    text: str = " "
    highlight: int = 0


Grid = list[list[Cell]]


class Screen:
    """The grid that `events` have drawn, and all frames so far."""

    def __init__(self) -> None:
        self.grid: Grid = []
        self.frames: list[Grid] = []
        self.cursor = (0, 0)
        self.highlights: dict[int, dict[str, Any]] = {}
        self.default = {"foreground": 0xFFFFFF, "background": 0}
        self._draw: dict[str, Callable[..., None]] = {
            "grid_resize": self._resize,
            "grid_clear": lambda _: self._resize(0, len(self.grid[0]), len(self.grid)),
            "grid_line": self._line,
            "grid_scroll": self._scroll,
            "grid_cursor_goto": lambda _, row, column: setattr(self, "cursor", (row, column)),
            "hl_attr_define": lambda number, rgb, *_: self.highlights.update({number: rgb}),
            "default_colors_set": lambda fg, bg, *_: self.default.update(foreground=fg, background=bg),
            "flush": lambda *_: self.frames.append([list(row) for row in self.grid]),
        }

    def redraw(self, events: list[list[Any]]) -> None:
        for name, *calls in events:
            for arguments in calls if name in self._draw else ():
                self._draw[name](*arguments)

    def _resize(self, _: int, width: int, height: int) -> None:
        self.grid = [[Cell()] * width for _ in range(height)]

    def _line(self, _: int, row: int, column: int, cells: list[list[Any]], *__: object) -> None:
        highlight = 0
        for text, *rest in cells:
            highlight = rest[0] if rest else highlight
            for _ in range(rest[1] if len(rest) > 1 else 1):
                self.grid[row][column] = Cell(text, highlight)
                column += 1

    def _scroll(self, _: int, top: int, bottom: int, left: int, right: int, rows: int, __: int) -> None:
        before = [list(row) for row in self.grid]
        for row in range(top, bottom):
            if top <= row + rows < bottom:
                self.grid[row][left:right] = before[row + rows][left:right]

    def text(self, grid: Grid | None = None) -> list[str]:
        """The rows of a frame, the current one by default."""
        return ["".join(cell.text for cell in row).rstrip() for row in (self.grid if grid is None else grid)]

    def coloured(self, colour: int, grid: Grid | None = None) -> str:
        """The text in a foreground colour, row by row."""
        rows = self.grid if grid is None else grid
        texts = ("".join(c.text for c in row if self._colours(c)[0] == colour).rstrip() for row in rows)
        return "\n".join(text for text in texts if text)

    def _colours(self, cell: Cell) -> tuple[int, int]:
        rgb = {**self.default, **self.highlights.get(cell.highlight, {})}
        pair = rgb["foreground"], rgb["background"]
        return pair[::-1] if rgb.get("reverse") else pair

    def svg(self) -> str:
        """A picture of the grid with its cursor."""
        height, width = len(self.grid) * CELL_HEIGHT, len(self.grid[0]) * CELL_WIDTH
        x, y = self.cursor[1] * CELL_WIDTH, self.cursor[0] * CELL_HEIGHT
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="14"'
            ' font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace" style="white-space:pre">',
            f'<rect width="100%" height="100%" fill="#{self.default["background"]:06x}"/>',
            *(part for number, cells in enumerate(self.grid) for part in self._runs(number, cells)),
            f'<rect x="{x:.1f}" y="{y}" width="2" height="{CELL_HEIGHT}" fill="#fff"/>',
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _runs(self, row: int, cells: list[Cell]) -> list[str]:
        """A row as runs of cells of one highlight."""
        parts, start = [], 0
        while start < len(cells):
            end = start
            while end < len(cells) and cells[end].highlight == cells[start].highlight:
                end += 1
            foreground, background = self._colours(cells[start])
            x, y, width = start * CELL_WIDTH, row * CELL_HEIGHT, (end - start) * CELL_WIDTH
            text = "".join(cell.text for cell in cells[start:end]).rstrip()
            if background != self.default["background"]:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{CELL_HEIGHT}" fill="#{background:06x}"/>'
                )
            if text:
                place = f'x="{x:.1f}" y="{y + 14}" textLength="{len(text) * CELL_WIDTH:.1f}"'
                parts.append(f'<text {place} fill="#{foreground:06x}">{html.escape(text)}</text>')
            start = end
        return parts
