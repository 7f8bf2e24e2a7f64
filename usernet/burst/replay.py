"""The replay window.  Read RFC 6479; sizes as in the Linux kernel's WireGuard.

A ring of words instead of one shifted bitmap: moving the window forward clears whole words and never shifts.  One word
of the ring is always being refilled, so the usable window is one word smaller than the ring.  A burst is nearly always
one run of consecutive counters: the kernel counts the run in a local variable and marks it here at once (`advance`).
"""

from __future__ import annotations

WORD_BITS = 64
RING_BITS = 8192
RING_WORDS = RING_BITS // WORD_BITS
WINDOW = RING_BITS - WORD_BITS  # 8128

_FULL = (1 << WORD_BITS) - 1


class ReplayWindow:
    """Which counters have been seen.  Ask only after the packet was authenticated."""

    __slots__ = ("_ring", "next")

    def __init__(self) -> None:
        self.next = 0  # one above the highest counter accepted
        self._ring: list[int] | None = None  # made when used: a session that never receives needs none

    def accept(self, counter: int) -> bool:
        """Mark `counter` as seen; False if it was seen before or is too old to know."""
        if counter >= self.next:
            self._slide(counter)
            self.next = counter + 1
        elif counter + WINDOW < self.next:
            return False
        ring = self._words()
        word = (counter // WORD_BITS) % RING_WORDS
        bit = 1 << (counter % WORD_BITS)
        if ring[word] & bit:
            return False
        ring[word] |= bit
        return True

    def advance(self, end: int) -> None:
        """Mark all of [next, end) as seen."""
        start = self.next
        if end <= start:
            return
        self._slide(end - 1)
        ring = self._words()
        at = max(start, end - WINDOW)  # what is older has left the window already
        while at < end:
            word_end = min(end, (at // WORD_BITS + 1) * WORD_BITS)
            bits = (_FULL >> (WORD_BITS - (word_end - at))) << (at % WORD_BITS)
            ring[(at // WORD_BITS) % RING_WORDS] |= bits
            at = word_end
        self.next = end

    def _slide(self, counter: int) -> None:
        """Clear the words between that of the highest counter so far and that of `counter`, the new highest."""
        ring = self._words()
        last = (self.next - 1) // WORD_BITS  # -1 at first: the word of counter 0 is cleared as well, which it is anyway
        word = counter // WORD_BITS
        for stale in range(max(last, word - RING_WORDS) + 1, word + 1):
            ring[stale % RING_WORDS] = 0

    def _words(self) -> list[int]:
        if self._ring is None:
            self._ring = [0] * RING_WORDS
        return self._ring
