"""What a process does around its event loop: limits, signals, the loop itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from usernet.errors import UsernetError

GARBAGE_OBJECTS = 20_000  # made and not freed since the collector looked last: some megabytes

log = logging.getLogger("usernet")


class StartError(UsernetError):
    """The daemon cannot start, or not go on; the text says why."""


class NoSuchLoop(UsernetError):
    """The event loop that was asked for is not installed; the text says what to do."""


def raise_descriptor_limit() -> None:
    """The soft limit, often 1024, up to the hard one: each proxied connection is a descriptor."""
    try:
        import resource
    except ImportError:  # not POSIX
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS takes no infinity here
            log.debug("the limit of %d open files stays", soft)


def descriptor_limit() -> int:
    """How many descriptors this process may have; a guess where nothing says so."""
    try:
        import resource
    except ImportError:
        return 1024
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, 1 << 20) if soft > 0 else 1 << 20  # negative: infinite


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """`asyncio`, `uvloop`, or `auto`: uvloop where it is installed.  Raises NoSuchLoop."""
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise NoSuchLoop("uvloop is not installed; pip install uvloop, or leave --loop out") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def run(main: Coroutine[Any, Any, None], loop: str = "auto") -> None:
    """Run to the end, on a loop of the kind named.  Raises NoSuchLoop."""
    try:
        factory = loop_factory(loop)
    except NoSuchLoop:
        main.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(_report)
        runner.run(main)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no callback has caught.  That no descriptor is left for somebody who asks is nobody's fault in here."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        log.warning("%s: %s", context["message"], error.strerror)
    else:
        loop.default_exception_handler(context)


def stop_event(*, hangup: bool = False) -> asyncio.Event:
    """Set by INT or TERM, and HUP where asked for.  A second one ends the process at once, should the stop hang."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()
        for again in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(again)
            signal.signal(again, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangup else [])):
        loop.add_signal_handler(number, on_signal, number)
    return stop


@contextlib.asynccontextmanager
async def on_hangup(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Do this at each SIGHUP for as long as the block lasts; those that come meanwhile are one more."""
    loop = asyncio.get_running_loop()
    wanted = asyncio.Event()

    async def serve() -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            try:
                await work()
            except Exception:  # the next one is to be heard
                log.exception("what SIGHUP asks for failed")

    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    try:
        async with for_as_long(serve()):
            yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextlib.asynccontextmanager
async def for_as_long(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do it while the block lasts."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


def freeze_garbage() -> None:
    """What has been imported and built by now stays: the collector need not look at it again.

    And seldom at anything: connections leave no cycles, but each is a hundred objects that come and go.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
