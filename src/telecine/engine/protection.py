"""Pure: how each rendition of a plan is encrypted: what players are told, and what is done with its
bytes.

Initialisation vectors follow from the plan and the rendition (of whole segments from the segment's
number, too), so that making a segment again gives the same bytes, and no two segments of a film
begin with the same one (ADR 19).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from telecine.engine.formats import aes, cmaf
from telecine.engine.formats.cenc import PICTURE_PATTERN, WHOLE, Encryption
from telecine.engine.plan import Plan
from telecine.engine.words.protection import ContentKey, see_key


def segment_iv(plan: Plan, rendition: str, number: int) -> bytes:
    """Of a segment that is encrypted as a whole."""
    return _digest(plan.id, rendition, str(number))


def rendition_iv(plan: Plan, rendition: str) -> bytes:
    """Of all samples of a rendition, where those are encrypted."""
    return _digest(plan.id, rendition)


def _digest(*words: str) -> bytes:
    return hashlib.sha256("\0".join(("telecine iv", *words)).encode()).digest()[: aes.BLOCK]


@dataclass(frozen=True, slots=True, repr=False)
class Lock:
    """What encrypts one rendition of a plan."""

    plan: Plan
    rendition: str
    key: ContentKey

    @property
    def encryption(self) -> Encryption | None:
        """How its samples are; None where whole segments are."""
        protection = self.plan.profile.protection
        if protection is None or protection.scheme != "cbcs":
            return None
        pattern = PICTURE_PATTERN if self.plan.voice(self.rendition) is None else WHOLE
        key_id = bytes.fromhex(protection.key_id)
        return Encryption(key_id, rendition_iv(self.plan, self.rendition), pattern)

    def seal_segment(self, number: int, data: bytes) -> bytes:
        """A segment file as it is stored; samples are encrypted before they are in it."""
        if self.encryption is not None:
            return data
        iv = segment_iv(self.plan, self.rendition, number)
        return aes.encrypt_padded(self.key.data, iv, data)

    def open_segment(self, number: int, data: bytes, track: cmaf.Track) -> bytes:
        """The segment file as it was before anything of it was encrypted; `track` is that of the
        stored init segment. Raises `StepFailed` (`malformed_media`)."""
        if self.encryption is not None:
            return cmaf.clear_segment(data, track, self.key.data)
        iv = segment_iv(self.plan, self.rendition, number)
        return aes.decrypt_padded(self.key.data, iv, data)


def lock_of(plan: Plan, rendition: str, key: ContentKey | None) -> Lock | None:
    """What encrypts a rendition, if anything does. Raises `UsageError` (`key_missing`,
    `key_mismatch`)."""
    needed = see_key(plan.profile.protection, key)
    return None if needed is None else Lock(plan, rendition, needed)
