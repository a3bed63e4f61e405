"""Types that every room may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: rows `top` to `bottom` - 1, columns `left` to `right` - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an array `[H, W, …]`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, factor: int) -> Window:
        """The same rectangle in an image `factor` times as large."""
        return Window(
            self.top * factor, self.left * factor, self.bottom * factor, self.right * factor
        )

    def within(self, outer: Window) -> Window:
        """This window in the coordinates of one that contains it."""
        return Window(
            self.top - outer.top,
            self.left - outer.left,
            self.bottom - outer.top,
            self.right - outer.left,
        )
