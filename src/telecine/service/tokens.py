"""What is handed out to prove who asks: signed access tokens, and random texts of which only a
SHA-256 is kept.

An access token is a JWT (RFC 9068's `at+jwt`), HS256 alone. It names a session; whether that still
lives is for `sessions` to look up at each request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OctKey

from telecine.service.domain import Unauthenticated
from telecine.service.signing import Signer

ALGORITHM = "HS256"
TYPE = "at+jwt"
ISSUER = "telecine"
AUDIENCE = "telecine-api"
PURPOSE = "access-token"
MAX_CHARACTERS = 1024  # ours have about 350

API_KEY = "tck"
REFRESH = "tcr"
ONE_TIME = "tco"


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Whom an access token speaks for."""

    user_id: str
    session_id: str


def sign_access_token(
    signer: Signer, claims: AccessClaims, *, now_s: float, expires_at: float
) -> str:
    """A token that is good from now until then, in whole seconds, rounded down."""
    header = _header(signer)
    body = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": claims.user_id,
        "sid": claims.session_id,
        "iat": int(now_s),
        "nbf": int(now_s),
        "exp": int(expires_at),
    }
    return jwt.encode(header, body, _key(signer), algorithms=[ALGORITHM], default_type=None)


def read_access_token(signer: Signer, token: str, *, now_s: float) -> AccessClaims:
    """Whom a token speaks for. Raises `Unauthenticated`: `token_expired` for a token of ours whose
    time is over, `token_invalid` for anything else."""
    # Our header is always the same bytes, so a token with any other is not ours: its words
    # (another algorithm, a key's address, something critical) are not even read.
    header, _, _ = jwt.encode(
        _header(signer), {}, _key(signer), algorithms=[ALGORITHM], default_type=None
    ).partition(".")
    if len(token) > MAX_CHARACTERS or not token.isascii() or not token.startswith(f"{header}."):
        raise _invalid()
    try:
        claims = jwt.decode(token, _key(signer), algorithms=[ALGORITHM]).claims
        _rules(int(now_s)).validate(claims)
    except ExpiredTokenError:
        raise Unauthenticated("this access token has expired", code="token_expired") from None
    except (JoseError, ValueError):
        raise _invalid() from None
    return AccessClaims(user_id=str(claims["sub"]), session_id=str(claims["sid"]))


def _rules(now_s: int) -> jwt.JWTClaimsRegistry:
    return jwt.JWTClaimsRegistry(
        now=now_s,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        sub={"essential": True},
        sid={"essential": True},
        iat={"essential": True},
        nbf={"essential": True},
        exp={"essential": True},
    )


def _header(signer: Signer) -> dict[str, str]:
    # Names the key without telling of it, so that one day two can be good at once.
    kid = signer.key(f"{PURPOSE}-id")[:8].hex()
    return {"typ": TYPE, "alg": ALGORITHM, "kid": kid}


def _key(signer: Signer) -> OctKey:
    return OctKey.import_key(signer.key(PURPOSE))


def _invalid() -> Unauthenticated:
    return Unauthenticated("this access token is not valid", code="token_invalid")


def csrf_token(signer: Signer, session_id: str) -> str:
    """What a web page sends beside its session's cookies: no other site can read or make it."""
    mac = hmac.digest(signer.key("csrf"), session_id.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def new_secret(kind: str) -> str:
    """A new random text of 256 bits. What it begins with says what it is, to people and to
    programs that look for secrets where none should be."""
    return f"{kind}_{secrets.token_hex(32)}"


def digest(secret: str) -> str:
    """What is kept of a random text. A plain SHA-256: nobody guesses 256 bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
