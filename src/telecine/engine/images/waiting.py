"""Pure: who waits, who is next, and who has to go: turns and places shared among tenants.

Turns go round (RFC 970, "fairness in packet switching"): each tenant of whom something waits has
one, then the next. A tenant's own requests keep their order.

One tenant alone may fill the room. Where it is full, places go to who has fewer: whoever comes
takes the place of the newest request of the tenant that has most, if that tenant still has no
fewer than they afterwards. So nobody gains by asking for more than the others do, and no place is
kept empty for somebody who may not come.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class WaitingRoom(Generic[T]):
    """For one thread at once. `most`, how many may wait, is said anew each time: it may change."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[T]] = {}  # none is empty; in the order of their turns
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has_room(self, tenant: str, most: int) -> bool:
        """Whether one more of this tenant's may wait."""
        return self._count < most or self._richest(tenant) is not None

    def put(self, tenant: str, one: T, most: int) -> T | None:
        """Let it wait, where it `has_room`; who had to go for it, if anybody."""
        gone = None
        if self._count >= most:
            richest = self._richest(tenant)
            assert richest is not None
            gone = richest.pop()
            self._count -= 1
        self._lines.setdefault(tenant, deque()).append(one)
        self._count += 1
        return gone

    def take(self) -> T:
        """The next one, of those that wait: there is one."""
        tenant, line = next(iter(self._lines.items()))
        del self._lines[tenant]
        one = line.popleft()
        if line:
            self._lines[tenant] = line  # behind all others
        self._count -= 1
        return one

    def remove(self, one: T) -> bool:
        """Forget it; whether it was waiting still."""
        for tenant, line in self._lines.items():
            for at, each in enumerate(line):
                if each is one:
                    del line[at]
                    self._count -= 1
                    if not line:
                        del self._lines[tenant]
                    return True
        return False

    def _richest(self, tenant: str) -> deque[T] | None:
        """The line of whoever has most, if it has at least two more than this tenant's."""
        longest = max(self._lines.values(), key=len, default=deque[T]())
        own = len(self._lines.get(tenant, ()))
        return longest if len(longest) >= own + 2 else None
