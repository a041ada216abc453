"""Server-sent events out of network reads: bytes in, the data of whole events out. Does no I/O."""

MAX_EVENT = 16 * 1024 * 1024  # bytes of one event: a server that never ends a line stops here
MARK = b"\xef\xbb\xbf"  # the byte order mark that the standard allows at the beginning


class EventTooLarge(ValueError):
    """One event is larger than any answer can be."""


Event = tuple[str, bytes]  # its name ("" for none) and its data; plain, as there are many


class EventReader:
    """Split a byte stream into events; comments, ids and retry fields are dropped.

    Understands the three line ends of the standard, also across reads, and several data lines.
    Events without data are dropped too, as servers send them to keep a connection open.
    """

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        """Begin with nothing read."""
        self._max_event = max_event
        self._rest = b""
        self._first = True

    def feed(self, data: bytes) -> list[Event]:
        """Take one network read and return the events it completes.

        Raises:
            EventTooLarge: an event has more than `max_event` bytes.
        """
        if (  # nearly every read of a slow answer: one event of one line
            not self._rest
            and data.startswith(b"data: ")
            and len(data) > 8
            and data.find(b"\n") == len(data) - 2
            and data.endswith(b"\n\n")
        ):
            self._first = False
            return [("", data[6:-2])]
        if self._rest:
            data = self._rest + data
        if self._first and len(data) >= len(MARK):
            self._first = False
            data = data.removeprefix(MARK)
        if b"\r" in data:
            data = _plain_ends(data)
        blocks = data.split(b"\n\n")
        self._rest = blocks.pop()
        if len(self._rest) > self._max_event:
            raise EventTooLarge
        events: list[Event] = []
        for block in blocks:
            if len(block) > 6 and block.startswith(b"data: ") and b"\n" not in block:
                events.append(("", block[6:]))
            elif (event := _event(block)) is not None:
                events.append(event)
        return events

    def rest(self) -> Event | None:
        """Return the event that the end of the stream left without its empty line, if any."""
        block, self._rest = _plain_ends(self._rest + b"\n"), b""
        return _event(block)


def _plain_ends(data: bytes) -> bytes:
    """Write every line end as a line feed; a final CR waits for what follows it."""
    held = b"\r" if data.endswith(b"\r") else b""
    if held:
        data = data[:-1]
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held


def _event(block: bytes) -> Event | None:
    name, found = "", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            found.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    data = b"\n".join(found)
    return (name, data) if data or (found and name == "error") else None
