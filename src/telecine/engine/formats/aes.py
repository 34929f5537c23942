"""Pure: AES-128 in CBC mode, by OpenSSL (the package `cryptography`)."""

from __future__ import annotations

from telecine.engine.formats.bmff import malformed

BLOCK = 16


def encrypt_blocks(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Whole blocks, without padding."""
    encryptor = _cipher(key, iv).encryptor()
    return bytes(encryptor.update(data) + encryptor.finalize())


def decrypt_blocks(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Whole blocks, without padding."""
    decryptor = _cipher(key, iv).decryptor()
    return bytes(decryptor.update(data) + decryptor.finalize())


def encrypt_padded(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Any bytes, with the padding of PKCS #7 (RFC 5652, 6.3)."""
    count = BLOCK - len(data) % BLOCK
    return encrypt_blocks(key, iv, data + bytes([count]) * count)


def decrypt_padded(key: bytes, iv: bytes, data: bytes | memoryview) -> bytes:
    """What `encrypt_padded` encrypted.

    Raises:
        StepFailed: (code `malformed_media`) it is no such thing, or of another key.
    """
    if not data or len(data) % BLOCK:
        raise malformed("what is encrypted is no whole blocks")
    clear = decrypt_blocks(key, iv, bytes(data))
    count = clear[-1]
    if not 1 <= count <= BLOCK or clear[-count:] != bytes([count]) * count:
        raise malformed("it does not decrypt: another key, or damaged")
    return clear[:-count]


def _cipher(key: bytes, iv: bytes):  # type: ignore[no-untyped-def]
    # OpenSSL takes a while to load, and few runs encrypt.
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES128
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    return Cipher(AES128(key), CBC(iv))
