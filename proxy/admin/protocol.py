"""The admin protocol without any I/O: lines of JSON in UTF-8, each an object and at most 64 KiB long on the way in.

    client  {"id": 1, "command": "status", "args": {"peers": true}}
    server  {"id": 1, "result": ...}
            {"id": 1, "error": {"code": "unknown-command", "message": "..."}}
    or, where the answer is a stream,
            {"id": 1, "item": ...}   any number of them
            {"id": 1, "end": true}   or the error
    server  {"event": "system-shutdown"}   at any time; it hangs up then

Requests of one client are answered one after the other, and a stream ends with its client's connection.  A line that is
no request is answered with an error, whose id is null where there was none to be found; the next line counts again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from usernet.errors import UsernetError

LINE_MAX: Final = 64 << 10  # B, without the newline
REPLY_MAX: Final = 64 << 20  # B; what a client takes of its own daemon
ID_MAX: Final = (1 << 53) - 1  # RFC 8259 section 6: every reader of JSON gets these right
_COMMAND: Final = re.compile(r"[a-z][a-z0-9-]{0,31}(/[a-z][a-z0-9-]{0,31}){0,3}")

Args = dict[str, Any]


class CommandError(UsernetError):
    """What a request failed of.  `code` is a slug for programs, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BadArguments(CommandError):
    """For handlers: the arguments make no sense; the text says which and what would."""

    def __init__(self, message: str) -> None:
        super().__init__("bad-arguments", message)


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    command: str
    args: Args = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that is no request, and what its sender is to be told."""

    id: int | None
    error: CommandError


@dataclass(frozen=True, slots=True)
class Result:
    id: int
    value: Any


@dataclass(frozen=True, slots=True)
class Item:
    id: int
    value: Any


@dataclass(frozen=True, slots=True)
class End:
    id: int


@dataclass(frozen=True, slots=True)
class Failure:
    id: int | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Event:
    name: str


Reply = Result | Item | End | Failure | Event


class _Lines:
    """Bytes -> lines.  What a line has above the limit is not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buf = bytearray()
        self._searched = 0  # there is no newline before
        self._skipping = False  # the rest of a line that was too long
        self._ended = False

    def receive_data(self, data: bytes) -> None:
        self._buf += data

    def receive_eof(self) -> None:
        self._ended = True

    def next_line(self) -> bytes | None:
        """None: more is needed, or all has been given.  CommandError once for each line that is too long."""
        while True:
            end = self._buf.find(b"\n", self._searched)
            if end < 0:
                return self._rest()
            line = bytes(self._buf[:end])
            del self._buf[: end + 1]
            self._searched = 0
            if self._skipping:
                self._skipping = False
            elif len(line) > self._limit:
                raise self._too_long()
            elif line.strip():
                return line

    def _rest(self) -> bytes | None:
        self._searched = len(self._buf)
        if self._skipping or self._searched > self._limit:
            self._buf.clear()
            self._searched = 0
            if not self._skipping:
                self._skipping = True
                raise self._too_long()
        elif self._ended and self._buf.strip():  # the last line may lack its newline
            line = bytes(self._buf)
            self._buf.clear()
            self._searched = 0
            return line
        return None

    def _too_long(self) -> CommandError:
        return CommandError("too-long", f"a line may have {self._limit} bytes")


class Requests:
    """The server's ear: `receive_data`, then `next_event` until it gives None."""

    def __init__(self) -> None:
        self._lines = _Lines(LINE_MAX)
        self.receive_data = self._lines.receive_data
        self.receive_eof = self._lines.receive_eof

    def next_event(self) -> Request | Refused | None:
        try:
            line = self._lines.next_line()
        except CommandError as error:
            return Refused(None, error)
        return None if line is None else parse_request(line)


class Replies:
    """The client's."""

    def __init__(self) -> None:
        self._lines = _Lines(REPLY_MAX)
        self.receive_data = self._lines.receive_data
        self.receive_eof = self._lines.receive_eof

    def next_event(self) -> Reply | None:
        """CommandError at what no daemon of ours says."""
        line = self._lines.next_line()
        return None if line is None else parse_reply(line)


def parse_request(line: bytes) -> Request | Refused:
    """One line, without its newline."""
    number: int | None = None
    try:
        found = parse_object(line)
        number = _id(found.pop("id", None))
        command = parse_command(found.pop("command", None))
        args = found.pop("args", {})
        if not isinstance(args, dict):
            raise CommandError("bad-request", "args is not an object")
        if found:
            raise CommandError("bad-request", f"a request has id, command and args, but no {min(found)[:32]!r}")
    except CommandError as error:
        return Refused(number, error)
    return Request(number, command, args)


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object, and one that every other reader of JSON would read alike.  Raises CommandError."""
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_constant)
    except RecursionError:
        raise CommandError("bad-request", "it is nested too deeply") from None
    except ValueError as error:
        raise CommandError("bad-request", f"it is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise CommandError("bad-request", "it is JSON, but not an object")
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is none of its numbers")


def _id(found: object) -> int:
    if type(found) is not int or not 0 <= found <= ID_MAX:
        raise CommandError("bad-request", f"id is not a whole number from 0 to {ID_MAX}")
    return found


def parse_command(found: object) -> str:
    """The name of a command, such as `status` or `debug/rebind`.  Raises CommandError."""
    if not isinstance(found, str) or not _COMMAND.fullmatch(found):
        raise CommandError("bad-request", "command is not a name such as status or debug/rebind")
    return found


def parse_reply(line: bytes) -> Reply:
    """What a server sent.  Raises CommandError."""
    match parse_object(line):
        case {"event": str(name)}:
            return Event(name)
        case {"id": int(number) | (None as number), "error": {"code": str(code), "message": str(message)}}:
            return Failure(number, code, message)
        case {"id": int(number), "result": value}:
            return Result(number, value)
        case {"id": int(number), "item": value}:
            return Item(number, value)
        case {"id": int(number), "end": True}:
            return End(number)
        case _:
            raise CommandError("bad-reply", "what answers is no daemon of ours")


def encode(value: Any) -> bytes:
    """Any line.  TypeError, ValueError or RecursionError for what is not JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def encode_request(request: Request) -> bytes:
    return encode({"id": request.id, "command": request.command, "args": request.args})


def encode_result(number: int, value: Any) -> bytes:
    return encode({"id": number, "result": value})


def encode_item(number: int, value: Any) -> bytes:
    return encode({"id": number, "item": value})


def encode_end(number: int) -> bytes:
    return encode({"id": number, "end": True})


def encode_failure(number: int | None, error: CommandError) -> bytes:
    return encode({"id": number, "error": as_json(error)})


def encode_event(name: str) -> bytes:
    return encode({"event": name})


def as_json(error: CommandError) -> dict[str, str]:
    return {"code": error.code, "message": str(error)}
