"""How often one may fail: 5 log-ins a minute of an account, 20 of an address.

Failures of an account are counted apart for each address from which its owner has logged in before,
and together for all others, so strangers who guess cannot lock the owner out. In memory: every API
process counts for itself, and forgets when it ends.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from telecine.service.domain import TooMany
from telecine.service.tokens import digest

PER_ACCOUNT = RateLimitItemPerMinute(5)
PER_ADDRESS = RateLimitItemPerMinute(20)

MANY_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a failure counts."""

    limit: RateLimitItem
    name: str


def log_in_buckets(account: str, address: str, known: frozenset[str]) -> tuple[Bucket, ...]:
    """Where a failed log-in counts. `known` are addresses of the account's earlier sessions."""
    place = network_of(address)
    if place not in {network_of(other) for other in known}:
        place = "elsewhere"
    return (Bucket(PER_ACCOUNT, digest(f"{account}\n{place}")), address_bucket(address))


def address_bucket(address: str) -> Bucket:
    """Where everything that fails from this address counts."""
    return Bucket(PER_ADDRESS, digest(network_of(address)))


def password_bucket(user_id: str) -> Bucket:
    """Where it counts when someone logged in gives a wrong password."""
    return Bucket(PER_ACCOUNT, digest(user_id))


def network_of(address: str) -> str:
    """An IPv4 address itself; of an IPv6 address the /64, which is one customer's as a whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))


class LoginLimits:
    """A process's failures of the last minute."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._window = MovingWindowRateLimiter(self._storage)
        self._lock = threading.Lock()

    def check(self, buckets: tuple[Bucket, ...]) -> None:
        """Raises `TooMany` (`login_limited`) where one of the buckets is full."""
        with self._lock:
            for bucket in buckets:
                window = self._window.get_window_stats(bucket.limit, bucket.name)
                if window.remaining <= 0:
                    raise _limited(window.reset_time - time.time())

    def failed(self, buckets: tuple[Bucket, ...]) -> None:
        """Count a failure. Raises `TooMany` where others have filled a bucket meanwhile."""
        with self._lock:
            self._forget_old()
            counted = [self._window.hit(bucket.limit, bucket.name) for bucket in buckets]
        if not all(counted):
            self.check(buckets)

    def _forget_old(self) -> None:
        """The library keeps the name of every key that it ever counted."""
        if len(self._storage.events) >= MANY_KEYS:
            for key in [key for key, kept in list(self._storage.events.items()) if not kept]:
                self._storage.clear(key)


def _limited(wait_s: float) -> TooMany:
    return TooMany(
        "too many failed attempts: wait before the next",
        code="login_limited",
        retry_after_s=max(1, math.ceil(wait_s)),
    )
