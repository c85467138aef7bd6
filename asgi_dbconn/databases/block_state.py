"""The state of a block: open, ending, ended; and what its end has to do. No I/O, and no loop.

Blocks inside each other form a chain: at any moment at most one inner block uses the connection of
its outer one.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["BlockState", "Ending", "Phase"]


class Phase(Enum):
    """The stage of a block's life. It goes forward only."""

    NEW = "new"
    OPEN = "open"
    ENDING = "ending"
    ENDED = "ended"


class Ending(Enum):
    """The work that the end of a block has to do."""

    COMMIT = "commit"
    ROLL_BACK = "roll back"
    REFUSE = "roll back, because an inner block is open"
    NOTHING = "nothing, because an outer block has ended it"


class BlockState:
    """One block. ``outer`` is the block around it, ``inner`` the open block inside it."""

    __slots__ = ("inner", "is_waited_for", "outer", "phase")

    def __init__(self, outer: BlockState | None = None) -> None:
        self.outer = outer
        self.inner: BlockState | None = None
        self.phase = Phase.NEW
        self.is_waited_for = False
        """True if the end of an outer block waits for it as for a statement: that of a verb."""

    @property
    def is_open(self) -> bool:
        """True if statements and further blocks may begin in it."""
        return self.phase is Phase.OPEN

    def begin_to_open(self) -> None:
        """Become the inner block of the outer one, which has no other block inside."""
        if self.outer is not None:
            self.outer.inner = self

    def open(self) -> bool:
        """Enter the block. Return False if an outer block has begun to end meanwhile."""
        if self.phase is Phase.NEW:
            self.phase = Phase.OPEN
        return self.phase is Phase.OPEN

    def cancel_opening(self) -> None:
        """Undo :meth:`begin_to_open`."""
        if self.outer is not None and self.outer.inner is self:
            self.outer.inner = None

    def chain(self) -> list[BlockState]:
        """Return the block and all blocks inside it, the innermost last."""
        blocks: list[BlockState] = [self]
        while blocks[-1].inner is not None:
            blocks.append(blocks[-1].inner)
        return blocks

    def begin_to_end(self, *, is_clean: bool) -> Ending:
        """Refuse new work in the block and all blocks inside it. Return what the end has to do."""
        if self.phase is not Phase.OPEN:
            return Ending.NOTHING
        blocks = self.chain()
        if is_clean and all(
            block.is_waited_for or block.phase is Phase.NEW for block in blocks[1:]
        ):
            # A block that is waited for may finish. One that is about to open will be refused.
            for block in blocks:
                if block is self or not block.is_waited_for:
                    block.phase = Phase.ENDING
            return Ending.COMMIT
        for block in blocks:
            block.phase = Phase.ENDING
        return Ending.REFUSE if is_clean else Ending.ROLL_BACK

    def end(self) -> None:
        """End the block, with the blocks that were open inside it."""
        for block in reversed(self.chain()):
            block.phase = Phase.ENDED
            block.inner = None
        if self.outer is not None and self.outer.inner is self:
            self.outer.inner = None
