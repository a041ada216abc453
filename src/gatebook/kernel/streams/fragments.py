"""Tool calls as servers really stream them, put in order: fragments in, starts and deltas out.

Knows every way an index, an id or a name goes missing; does not judge arguments: `stream` does.
"""

import hashlib

from gatebook.kernel.messages import StreamEvent, ToolCallDelta, ToolCallEnd, ToolCallStart
from gatebook.kernel.streams.blocks import arguments_fault


class _Fragments:
    """One tool call whose fragments are still coming."""

    __slots__ = ("given", "id", "name", "number", "pieces", "provider_data")

    def __init__(self, number: int, id: str, *, given: bool) -> None:
        self.number = number
        self.id = id
        self.given = given  # the provider named it; otherwise the id is ours
        self.name = ""
        self.pieces: list[str] = []
        self.provider_data: str | None = None

    def whole(self) -> bool:
        """Whether the arguments so far are one JSON object, so that more would spoil them."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False  # cheap, so that servers that repeat the name cost no second parse
        return arguments_fault("".join(self.pieces)) is None


class ToolCallAssembly:
    """Turn a provider's fragments of tool calls into ToolCallStart and ToolCallDelta.

    The key of a call is the provider's index. Servers also leave it out, send 0 for all calls,
    shift it inside a call, repeat names and ids, make up an id for every fragment, or send whole
    calls without ids: then another name, or an id where no index speaks against it, begins a
    call, and a fragment with neither goes on with the last one. A name is set once. A missing or
    repeated id is replaced by one made from `prefix`.
    """

    def __init__(self, prefix: str = "") -> None:
        """Begin with no calls; `prefix` (the answer's id) makes generated ids differ."""
        self.prefix = prefix
        self._by_index: dict[int, _Fragments] = {}
        self._by_id: dict[str, _Fragments] = {}
        self._all: list[_Fragments] = []

    def add(
        self,
        *,
        index: int | None,
        id: str | None,
        name: str | None,
        arguments: str,
        provider_data: str | None = None,
    ) -> list[StreamEvent]:
        """Take one fragment and return the events it makes."""
        call = self._place(index, id or "", name or "", arguments)
        events: list[StreamEvent] = []
        if provider_data is not None:
            call.provider_data = provider_data
        if name and not call.name:
            call.name = name
            events.append(ToolCallStart(call.number, call.id, name, call.provider_data))
            if call.pieces:
                events.append(ToolCallDelta(call.number, "".join(call.pieces)))
        if arguments:
            call.pieces.append(arguments)
            if call.name:
                events.append(ToolCallDelta(call.number, arguments))
        return events

    def settle(self, index: int, arguments: str) -> list[StreamEvent]:
        """Take the whole arguments of a call, where a provider says them after the fragments.

        They count: a fragment may have been lost or have come twice on the way.
        """
        call = self._by_index.get(index)
        if call is None or not call.name or "".join(call.pieces) == arguments:
            return []
        call.pieces = [arguments]
        return [ToolCallEnd(call.number, call.id, call.name, arguments)]

    def close(self) -> list[StreamEvent]:
        """Return the events of calls whose name never came: their answer is not runnable."""
        events: list[StreamEvent] = []
        for call in self._all:
            if not call.name:
                events.append(ToolCallStart(call.number, call.id, "", call.provider_data))
                events.append(ToolCallDelta(call.number, "".join(call.pieces)))
        return events

    def _place(self, index: int | None, id: str, name: str, arguments: str) -> _Fragments:
        bare = not id and not name
        last = self._all[-1] if self._all else None
        call = last if index is None else self._by_index.get(index)
        if call is not None and index is not None and not name:
            known = bare or self._by_id.get(id) is call
            if known or not arguments or not call.whole():
                if id:  # it came late, or is one of many
                    self._by_id.setdefault(id, call)
                    call.given = True
                return call  # its index says so, and no call begins without a name
        if call is None:
            # The index shifted inside a call: nothing or a known id says which.
            call = last if bare else self._by_id.get(id)
        if call is not None and not bare and self._is_next(call, id, name, arguments):
            call = None
        if call is None:
            call = self._new(id)
        if index is not None:
            self._by_index[index] = call
        return call

    def _is_next(self, call: _Fragments, id: str, name: str, arguments: str) -> bool:
        """Whether a fragment that seems to belong to `call` is the first of another one."""
        if name and call.name and name != call.name:
            return True  # whatever id and index say: one call has one name
        if id and self._by_id.get(id) is not call:
            if call.given or call.whole():
                return True
            call.given = True  # its id came late
            self._by_id[id] = call
            return False
        return bool(name and arguments) and call.whole()

    def _new(self, id: str) -> _Fragments:
        number = len(self._all)
        unique = id
        if not id or id in self._by_id:
            seed = f"{self.prefix}:{number}:{id}".encode()
            unique = "call_" + hashlib.sha256(seed).hexdigest()[:20]
        call = _Fragments(number, unique, given=bool(id))
        self._all.append(call)
        self._by_id[unique] = call
        if id:
            self._by_id[id] = call
        return call
