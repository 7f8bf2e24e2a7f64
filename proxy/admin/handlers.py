"""Who handles which command, and what becomes of a handler's failure: always a reply."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from proxy.admin.protocol import Args, CommandError
from proxy.admin.session import CLIENTS, Gone, Session, log
from usernet.aio.runtime import Tasks
from usernet.errors import UsernetError

Handler = Callable[[Args], Awaitable[Any] | AsyncIterator[Any]]


class Registered(NamedTuple):
    handler: Handler
    changes: bool  # something, so it is not asked for by GET


class Handlers:
    """The table of an AdminServer.  Needs a running event loop."""

    def __init__(self) -> None:
        self._handlers: dict[str, Registered] = {}
        self._tasks = Tasks(asyncio.get_running_loop())

    def register(self, command: str, handler: Handler, *, changes: bool = False) -> None:
        """ValueError if somebody handles it already."""
        if command in self._handlers:
            raise ValueError(f"{command} has a handler")
        self._handlers[command] = Registered(handler, changes)

    def unregister(self, command: str) -> None:
        """Requests for it are answered with an error from now on."""
        self._handlers.pop(command, None)

    @property
    def commands(self) -> list[str]:
        return sorted(self._handlers)

    def find(self, command: str) -> Registered:
        """Raises CommandError where nobody registered for it."""
        found = self._handlers.get(command)
        if found is None:
            module = command.partition("/")[0]
            raise CommandError("unknown-command", f"{command}: no module handled this command; is {module} enabled?")
        return found

    async def perform(self, command: str, args: Args) -> Any:
        """What its handler gives: a JSON value, or an async iterator of them.  Raises CommandError."""
        found = self.find(command)

        async def guarded() -> Any:
            try:
                outcome = found.handler(args)
                return await outcome if inspect.isawaitable(outcome) else outcome
            except Exception as error:  # noqa: BLE001 - every failure is a reply
                return failure(command, error)

        if found.changes:
            outcome = await asyncio.shield(self._tasks.start(guarded(), command))
        else:
            outcome = await guarded()
        if isinstance(outcome, CommandError):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Whatever still changes something is cancelled."""
        await self._tasks.close()


async def stream(session: Session, command: str, items: AsyncIterator[Any], send: Callable[[Any], Any]) -> None:
    """To its end, or the client's.  Raises CommandError where its handler fails, and session.Gone."""
    try:
        await session.each(items, send)
    except Gone:
        raise
    except Exception as error:  # noqa: BLE001 - every failure is a reply
        raise failure(command, error) from None


def failure(command: str, error: Exception) -> CommandError:
    """What the client is told of a handler that failed; of a fault of ours the log has all there is to say."""
    if isinstance(error, CommandError):
        return error
    is_ours = not isinstance(error, (OSError, UsernetError))
    log.log(logging.ERROR if is_ours else logging.DEBUG, "the command %s failed", command, exc_info=error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return CommandError("failed", f"{command}: {where}{error.strerror}")
    if isinstance(error, UsernetError):
        return CommandError("failed", f"{command}: {error}")
    return CommandError("failed", f"{command}: {type(error).__name__}: {error}")


def encoded(command: str, encode: Callable[[], bytes]) -> bytes:
    """Raises CommandError where a handler gave what is not JSON."""
    try:
        return encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise failure(command, error) from None


def too_many() -> CommandError:
    return CommandError("busy", f"{CLIENTS} clients are connected, and more there cannot be; try again later")


def too_late(session: Session) -> CommandError:
    return CommandError("timeout", f"no request came within {session.seconds:g} s")
