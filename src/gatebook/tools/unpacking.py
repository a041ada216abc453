"""The body of an answer as it comes in: unpacked, and never more of it than is wanted.

The HTTP client would unpack several codings, one within the other, and keep what follows the end of
a packed text: 300 KB can stand for gigabytes there that are never shown. Knows no client.
"""

import zlib

WINDOWS = {  # RFC 9110, 8.4.1: what `accept-encoding` says; the second is a name of the first
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}
SLACK = 64 * 1024  # bytes: a packed text may be longer than what it stands for


class Body:
    """What is kept of a body.

    Args:
        codings: what its `content-encoding` says.
        most: bytes that are kept, unpacked.

    Attributes:
        more: there is more of it than is kept.
        packed: it is kept as it came, because it was not asked for in this coding.
    """

    def __init__(self, codings: str, most: int) -> None:
        coding = codings.strip().lower()
        self.more = False
        self.packed = coding not in ("", "identity", *WINDOWS)
        self._most = most
        self._kept = bytearray()
        self._raw_left = 2 * most + SLACK
        self._unpacker = zlib.decompressobj(WINDOWS[coding]) if coding in WINDOWS else None
        self._may_be_bare = coding == "deflate"  # some servers leave the frame out

    def __bytes__(self) -> bytes:
        return bytes(self._kept)

    def take(self, piece: bytes) -> bool:
        """Take what came next, and return whether to read on.

        Raises:
            zlib.error: it is not packed as its coding says.
        """
        room = self._most - len(self._kept)
        self._raw_left -= len(piece)
        found, ended = (piece, False) if self._unpacker is None else self._unpack(piece, room + 1)
        self._kept += found[:room]
        self.more = len(found) > room or (self._raw_left < 0 and not ended)
        return not self.more and not ended

    def _unpack(self, piece: bytes, most: int) -> tuple[bytes, bool]:
        """Return at most so many bytes, and whether the packed text ends there."""
        assert self._unpacker is not None
        try:
            found = self._unpacker.decompress(piece, most)
        except zlib.error:
            if not self._may_be_bare:
                raise
            self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            found = self._unpacker.decompress(piece, most)
        self._may_be_bare = False
        return found, self._unpacker.eof
