"""What lies inside a tunnel, as an Engine (`engine.py`) asks for it: `network.py` has the userspace stack there, and
`usernet/tun/network.py` an interface of the kernel's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from usernet.links import PacketLink

if TYPE_CHECKING:
    from usernet.aio.nameserver import Ways
    from usernet.config import Config
    from usernet.config.changes import Changes


class Inside:
    """For whoever derives from Engine to say."""

    async def _open_inside(self, loop: asyncio.AbstractEventLoop) -> PacketLink:
        """Make what lies inside.  Raises OSError; then nothing is left of it."""
        raise NotImplementedError

    async def _change_inside(self, config: Config, changes: Changes) -> None:
        """Give it other addresses or another MTU, routes and so on.  Raises OSError; then it is as before."""
        raise NotImplementedError

    def _mark(self) -> int:
        """What outer packets carry for the kernel's rules; 0 is nothing."""
        return 0

    async def _leave(self) -> None:
        """End what is open inside, with a moment for what is on its way."""

    async def _close_inside(self) -> None:
        """The pump has stopped: nothing is left of what was made for it."""
        raise NotImplementedError

    def _ways(self) -> Ways:
        """How name servers inside are spoken to."""
        raise NotImplementedError
