"""Keys that films are encrypted with: given with a job, needed by its workers, told to nobody.

A key is sealed with a key of the installation's (AES-GCM), for its user and by its own id, before
it is stored: a copy of the database opens nothing, and sealed text of another's is of no use. It
stands in the job's row until the job has succeeded, since one that has not may be tried again.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from telecine.engine.errors import StepFailed
from telecine.engine.words.protection import ContentKey, Protection
from telecine.service.domain import SEALED_KEY
from telecine.service.signing import Signer

_PURPOSE = "content-key"
_NONCE_BYTES = 12


def kept(
    signer: Signer,
    user_id: str,
    protection: Protection | None,
    key: ContentKey | None,
    outputs: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], ...]:
    """The outputs of an order as they are stored: with the sealed key where there is one."""
    if protection is None or key is None:
        return tuple(dict(output) for output in outputs)
    nonce = os.urandom(_NONCE_BYTES)
    bound = _bound(user_id, protection)
    sealed = nonce + AESGCM(signer.key(_PURPOSE)).encrypt(nonce, key.data, bound)
    text = base64.b64encode(sealed).decode()
    return tuple(
        {**output, SEALED_KEY: text} if output.get("protection") else dict(output)
        for output in outputs
    )


def shown(outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same as they are told."""
    return [{name: output[name] for name in output if name != SEALED_KEY} for output in outputs]


def opened(
    signer: Signer,
    user_id: str,
    protection: Protection | None,
    outputs: Sequence[Mapping[str, Any]],
) -> ContentKey | None:
    """The key of a job's protection. Raises `StepFailed` (`key_unreadable`) where the secret of the
    installation is another than when the job was submitted."""
    if protection is None:
        return None
    for output in outputs:
        if SEALED_KEY in output:
            sealed = base64.b64decode(output[SEALED_KEY])
            nonce, data = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            try:
                cipher = AESGCM(signer.key(_PURPOSE))
                return ContentKey(cipher.decrypt(nonce, data, _bound(user_id, protection)))
            except InvalidTag:
                break
    raise StepFailed("the key of the job cannot be opened: submit it again", code="key_unreadable")


def _bound(user_id: str, protection: Protection) -> bytes:
    return f"{user_id}\n{protection.key_id}".encode()
