"""A journal that fails on purpose: kills the process, raises, or loses an answer.

A failpoint is written `when:method:n[:deed]`, for example `after:append:7` (kill the process
after the seventh append is committed and before anybody hears of it). It lives here and not in
the product: the wrapped journal does not know of it.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gatebook.errors import CommitUnknown, ConfigError, StoreError
from gatebook.kernel.append import Batch
from gatebook.kernel.events import RunStarted
from gatebook.kernel.spending.ledgers import Balance
from gatebook.ports import (
    Appended,
    Journal,
    Lease,
    ParkedReason,
    Piece,
    Recorded,
    RunKey,
    RunQuery,
    RunRow,
)

VARIABLE = "GATEBOOK_FAILPOINT"

When = Literal["before", "after"]
Method = Literal["create", "append", "claim", "renew", "park"]
Deed = Literal["kill", "error", "unknown"]


class Failpoint(msgspec.Struct, frozen=True):
    """Where and how to fail.

    Attributes:
        when: before the call reaches the store, or after it has committed.
        method: which method counts.
        n: at which call of it, from 1.
        deed: "kill" ends the process with SIGKILL, "error" raises StoreError, "unknown" raises
            CommitUnknown.
    """

    when: When
    method: Method
    n: int
    deed: Deed = "kill"

    @classmethod
    def parse(cls, text: str) -> "Failpoint":
        """Return the failpoint of `when:method:n[:deed]`, or raise ConfigError E_CONFIG."""
        parts = dict(zip(cls.__struct_fields__, text.split(":"), strict=False))
        try:
            point = msgspec.convert(parts, cls, strict=False)
        except msgspec.ValidationError:
            point = None
        if point is None or point.n < 1 or text.count(":") > 3:
            fix = "write when:method:n[:kill|error|unknown], for example after:append:7"
            raise ConfigError(
                "E_CONFIG", name=VARIABLE, path="the environment", detail=text, fix=fix
            )
        return point


def from_env(journal: Journal, environ: Mapping[str, str] = os.environ) -> Journal:
    """Return the journal with the failpoints of GATEBOOK_FAILPOINT (commas between), if any."""
    text = environ.get(VARIABLE, "")
    if not text:
        return journal
    return FailpointJournal(journal, [Failpoint.parse(part) for part in text.split(",")])


class FailpointJournal(Journal):
    """A journal that hands every call on, and fails where the plan says.

    Attributes:
        inner: the journal that does the work.
        calls: how often each method was called; tests look here whether a point was reached.
    """

    def __init__(self, inner: Journal, plan: Sequence[Failpoint]) -> None:
        self.inner = inner
        self.url = inner.url
        self.calls: dict[str, int] = {}
        self._plan: dict[tuple[str, str, int], Deed] = {
            (point.when, point.method, point.n): point.deed for point in plan
        }

    def _count(self, method: str) -> int:
        n = self.calls[method] = self.calls.get(method, 0) + 1
        self._at("before", method, n)
        return n

    def _at(self, when: str, method: str, n: int) -> None:
        deed = self._plan.get((when, method, n))
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "error":
            raise StoreError("E_STORE_IO", store=self.url, detail=f"failpoint {method} {n}")
        if deed == "unknown":
            raise CommitUnknown("E_COMMIT_UNKNOWN", detail=f"failpoint {method} {n}")

    async def create(self, run: RunKey, started: RunStarted, *, input_hash: str) -> RunRow | None:
        """Create in the inner journal, with failpoints."""
        n = self._count("create")
        row = await self.inner.create(run, started, input_hash=input_hash)
        self._at("after", "create", n)
        return row

    async def append(self, run: RunKey, batch: Batch) -> Appended:
        """Append to the inner journal, with failpoints."""
        n = self._count("append")
        done = await self.inner.append(run, batch)
        self._at("after", "append", n)
        return done

    def gone(self, owner: str) -> bool:
        """As the inner journal says."""
        return self.inner.gone(owner)

    async def claim(self, run: RunKey, *, owner: str, ttl_ms: int) -> Lease | None:
        """Claim from the inner journal, with failpoints."""
        n = self._count("claim")
        lease = await self.inner.claim(run, owner=owner, ttl_ms=ttl_ms)
        self._at("after", "claim", n)
        return lease

    async def renew(self, owner: str, leases: Sequence[Lease], *, ttl_ms: int) -> list[Lease]:
        """Renew at the inner journal, with failpoints."""
        n = self._count("renew")
        lost = await self.inner.renew(owner, leases, ttl_ms=ttl_ms)
        self._at("after", "renew", n)
        return lost

    async def park(
        self,
        lease: Lease,
        *,
        after: int,
        wake_at: int | None,
        waiting_on: str,
        reason: ParkedReason | Literal[""] = "",
    ) -> None:
        """Park at the inner journal, with failpoints."""
        n = self._count("park")
        await self.inner.park(
            lease, after=after, wake_at=wake_at, waiting_on=waiting_on, reason=reason
        )
        self._at("after", "park", n)

    async def open(self) -> None:
        """Open the inner journal."""
        await self.inner.open()

    async def close(self) -> None:
        """Close the inner journal."""
        await self.inner.close()

    async def row(self, run: RunKey) -> RunRow:
        """Ask the inner journal."""
        return await self.inner.row(run)

    async def runs(self, tenant: str, query: RunQuery) -> list[RunRow]:
        """Ask the inner journal."""
        return await self.inner.runs(tenant, query)

    async def read(
        self, run: RunKey, *, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        """Ask the inner journal."""
        return await self.inner.read(run, after=after, limit=limit)

    async def raw(self, run: RunKey) -> list[tuple[int, bytes, bytes, bytes]]:
        """Ask the inner journal."""
        return await self.inner.raw(run)

    async def tail(self, tenant: str, *, after: int, limit: int = 1_000) -> list[Recorded]:
        """Ask the inner journal."""
        return await self.inner.tail(tenant, after=after, limit=limit)

    async def wait(self, after: int) -> int:
        """Ask the inner journal."""
        return await self.inner.wait(after)

    async def touched(self) -> frozenset[RunKey]:
        """Ask the inner journal."""
        return await self.inner.touched()

    async def ledgers(self, tenant: str) -> dict[str, Balance]:
        """Hand on."""
        return await self.inner.ledgers(tenant)

    async def put_pieces(self, lease: Lease, pieces: Sequence[Piece]) -> None:
        """Put into the inner journal."""
        await self.inner.put_pieces(lease, pieces)

    async def pieces(self, run: RunKey, *, after: int = 0) -> list[Piece]:
        """Ask the inner journal."""
        return await self.inner.pieces(run, after=after)

    async def due(self, tenant: str, *, programs: Sequence[str], limit: int = 100) -> list[RunKey]:
        """Ask the inner journal."""
        return await self.inner.due(tenant, programs=programs, limit=limit)

    def now(self) -> int:
        """Ask the inner journal."""
        return self.inner.now()
