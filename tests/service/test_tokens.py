"""Access tokens: a table of forged ones, made by hand, and a search of all that is kept for what
could be used."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from tests.service.conftest import PASSWORD, Clock, filling, sign_up

from telecine.engine.tools import Tools
from telecine.service import admin
from telecine.service.admin import UserChange
from telecine.service.db import tables
from telecine.service.services import Services

HTTPS = "https://127.0.0.1:8000"
GRACE = "grace@example.org"
SHA = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Forger:
    """A true token taken apart, the true key, and what else a forger could have."""

    services: Services
    clock: Clock
    session: dict[str, Any]
    other: dict[str, Any]

    @property
    def true(self) -> str:
        return str(self.session["access_token"])

    @property
    def parts(self) -> list[str]:
        return self.true.split(".")

    @property
    def header(self) -> dict[str, Any]:
        return dict(json.loads(unb64(self.parts[0])))

    @property
    def claims(self) -> dict[str, Any]:
        return dict(json.loads(unb64(self.parts[1])))

    def key(self, purpose: str = "access-token") -> bytes:
        """As the signing module's docstring says it: HKDF's expand step, with one block."""
        secret = bytes.fromhex((self.services.settings.data / "secret.key").read_text())
        return hmac.new(secret, purpose.encode() + b"\x01", "sha256").digest()

    def make(
        self,
        header: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
        *,
        key: bytes | None = None,
        alg: str = "HS256",
        raw_header: bytes | None = None,
        raw_claims: bytes | None = None,
        without: str = "",
    ) -> str:
        """A token with some things other than in the true one, signed with the true key."""
        head = {**self.header, **(header or {})}
        body = {**self.claims, **(claims or {})}
        head.pop(without, None)
        body.pop(without, None)
        first = b64(raw_header or json.dumps(head, separators=(",", ":")).encode())
        second = b64(raw_claims or json.dumps(body, separators=(",", ":")).encode())
        signed = f"{first}.{second}"
        mac = hmac.new(self.key() if key is None else key, signed.encode(), SHA[alg]).digest()
        return f"{signed}.{b64(mac)}"

    def unsigned(self, alg: str) -> str:
        return ".".join([*self.make({"alg": alg}).split(".")[:2], ""])


def now_s(f: Forger) -> int:
    with f.services.database.read() as tx:
        return int(tx.now_s())


def ended(f: Forger) -> str:
    with f.services.database.write() as tx:
        tx.connection.execute(sa.update(tables.sessions).values(ended_at=tx.now))
    return f.true


def deleted(f: Forger) -> str:
    with f.services.database.write() as tx:
        tx.connection.execute(sa.delete(tables.users).where(tables.users.c.id == f.claims["sub"]))
    return f.true


def disabled(f: Forger) -> str:
    with f.services.database.write() as tx:
        tx.connection.execute(sa.update(tables.users).values(disabled=True))
    return f.true


def session_gone(f: Forger) -> str:
    with f.services.database.write() as tx:
        tx.connection.execute(sa.delete(tables.sessions))
    return f.true


def session_too_old(f: Forger) -> str:
    f.clock.forward(f.services.settings.session_ttl_s)
    return f.make(claims={"exp": now_s(f) + 900})


def session_idle(f: Forger) -> str:
    f.clock.forward(f.services.settings.session_idle_s)
    return f.make(claims={"exp": now_s(f) + 900})


def expired_by_the_clock(f: Forger) -> str:
    f.clock.forward(f.services.settings.access_ttl_s)
    return f.true


def at(place: int, change: Callable[[str], str]) -> Callable[[Forger], str]:
    """The true token with one of its three parts changed."""

    def forge(f: Forger) -> str:
        parts = f.parts
        parts[place] = change(parts[place])
        return ".".join(parts)

    return forge


def not_canonical(signature: str) -> str:
    """The same 32 bytes: the last letter's two spare bits are set."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = letters[letters.index(signature[-1]) | 3]
    assert unb64(signature) == unb64(signature[:-1] + other)
    return signature[:-1] + other


FORGED: dict[str, Callable[[Forger], str]] = {
    # another algorithm
    "alg none": lambda f: f.unsigned("none"),
    "alg None": lambda f: f.unsigned("None"),
    "alg NONE": lambda f: f.unsigned("NONE"),
    "alg empty": lambda f: f.unsigned(""),
    "alg none, true signature": lambda f: f.make({"alg": "none"}),
    "alg HS384, true key": lambda f: f.make({"alg": "HS384"}, alg="HS384"),
    "alg HS512, true key": lambda f: f.make({"alg": "HS512"}, alg="HS512"),
    "alg HS256, HS512's signature": lambda f: f.make(alg="HS512"),
    "alg RS256": lambda f: f.make({"alg": "RS256"}),
    "alg ES256": lambda f: f.make({"alg": "ES256"}),
    "alg EdDSA": lambda f: f.make({"alg": "EdDSA"}),
    "alg hs256": lambda f: f.make({"alg": "hs256"}),
    "alg a number": lambda f: f.make({"alg": 256}),
    "alg a list": lambda f: f.make({"alg": ["HS256"]}),
    "alg missing": lambda f: f.make(without="alg"),
    "alg twice": lambda f: f.make(raw_header=b'{"alg":"none","alg":"HS256","typ":"at+jwt"}'),
    # other words in the header, signed with the true key
    "kid other": lambda f: f.make({"kid": "another"}),
    "kid missing": lambda f: f.make(without="kid"),
    "kid a path": lambda f: f.make({"kid": "../../../../dev/null"}, key=b""),
    "kid SQL": lambda f: f.make({"kid": "x' UNION SELECT 'k' --"}, key=b"k"),
    "jku": lambda f: f.make({"jku": "https://evil.example/keys.json"}),
    "jwk": lambda f: f.make({"jwk": {"kty": "oct", "k": b64(b"k" * 32)}}, key=b"k" * 32),
    "x5u": lambda f: f.make({"x5u": "https://evil.example/cert.pem"}),
    "x5c": lambda f: f.make({"x5c": ["MIIB"]}),
    "crit unknown": lambda f: f.make({"crit": ["magic"], "magic": True}),
    "crit exp": lambda f: f.make({"crit": ["exp"], "exp": 1}),
    "b64 false": lambda f: f.make({"crit": ["b64"], "b64": False}),
    "zip": lambda f: f.make({"zip": "DEF"}),
    "cty JWT": lambda f: f.make({"cty": "JWT"}),
    "typ JWT": lambda f: f.make({"typ": "JWT"}),
    "typ refresh": lambda f: f.make({"typ": "rt+jwt"}),
    "typ missing": lambda f: f.make(without="typ"),
    "header a list": lambda f: f.make(raw_header=b'["alg"]'),
    "header a string": lambda f: f.make(raw_header=b'"alg HS256"'),
    "header null": lambda f: f.make(raw_header=b"null"),
    "header no JSON": lambda f: f.make(raw_header=b"alg=HS256"),
    "header no UTF-8": lambda f: f.make(raw_header=b'{"alg":"HS256\xff"}'),
    "header with spaces": lambda f: f.make(raw_header=json.dumps(f.header).encode()),
    # other claims, signed with the true key
    "expired": lambda f: f.make(claims={"exp": now_s(f) - 1}),
    "expired now": lambda f: f.make(claims={"exp": now_s(f)}),
    "expired since by the clock": expired_by_the_clock,
    "exp missing": lambda f: f.make(without="exp"),
    "exp text": lambda f: f.make(claims={"exp": "9999999999"}),
    "exp true": lambda f: f.make(claims={"exp": True}),
    "exp null": lambda f: f.make(claims={"exp": None}),
    "exp NaN": lambda f: f.make(claims={"exp": float("nan")}),
    "exp infinite": lambda f: f.make(claims={"exp": float("inf")}),
    "exp a list": lambda f: f.make(claims={"exp": [9999999999]}),
    "not yet": lambda f: f.make(claims={"nbf": now_s(f) + 60}),
    "nbf missing": lambda f: f.make(without="nbf"),
    "issued in the future": lambda f: f.make(claims={"iat": now_s(f) + 60}),
    "iat missing": lambda f: f.make(without="iat"),
    "iss other": lambda f: f.make(claims={"iss": "https://evil.example"}),
    "iss missing": lambda f: f.make(without="iss"),
    "iss a list": lambda f: f.make(claims={"iss": ["telecine"]}),
    "aud other": lambda f: f.make(claims={"aud": "another-api"}),
    "aud missing": lambda f: f.make(without="aud"),
    "aud empty": lambda f: f.make(claims={"aud": []}),
    "sub another user": lambda f: f.make(claims={"sub": f.other["user_id"]}),
    "sub unknown": lambda f: f.make(claims={"sub": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}),
    "sub missing": lambda f: f.make(without="sub"),
    "sub a number": lambda f: f.make(claims={"sub": 1}),
    "sid another user's": lambda f: f.make(claims={"sid": f.other["session"]["id"]}),
    "sid unknown": lambda f: f.make(claims={"sid": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}),
    "sid missing": lambda f: f.make(without="sid"),
    "sid a list": lambda f: f.make(claims={"sid": [f.claims["sid"]]}),
    "sid SQL": lambda f: f.make(claims={"sid": "' OR 1=1 --"}),
    "claims a list": lambda f: f.make(raw_claims=b"[]"),
    "claims no JSON": lambda f: f.make(raw_claims=b"sub=1"),
    "claims deep": lambda f: f.make(raw_claims=b"[" * 50_000),
    # another key
    "key random": lambda f: f.make(key=secrets.token_bytes(32)),
    "key empty": lambda f: f.make(key=b""),
    "key the installation's secret": lambda f: f.make(
        key=bytes.fromhex((f.services.settings.data / "secret.key").read_text())
    ),
    "key of CSRF tokens": lambda f: f.make(key=f.key("csrf")),
    "key of links": lambda f: f.make(key=f.key("link")),
    "another purpose's signature": lambda f: (
        ".".join(f.parts[:2])
        + "."
        + f.services.signer.sign("link", ".".join(f.parts[:2]), now_s(f) + 60).partition(".")[2]
    ),
    # cut, stretched, changed on the way
    "claims changed": at(1, lambda part: b64(unb64(part).replace(b'"exp":1', b'"exp":9'))),
    "signature cut": at(2, lambda part: part[:-2]),
    "signature longer": at(2, lambda part: part + "AAAA"),
    "signature not canonical": at(2, not_canonical),
    "signature of zeros": at(2, lambda _: b64(bytes(32))),
    "signature missing": at(2, lambda _: ""),
    "claims missing": at(1, lambda _: ""),
    "header missing": at(0, lambda _: ""),
    "padded": at(2, lambda part: part + "="),
    "the true one and a dot": lambda f: f.true + ".",
    "a dot and the true one": lambda f: "." + f.true,
    "four parts": lambda f: f"{f.true}.{f.parts[2]}",
    "five parts, as JWE": lambda f: f"{f.parts[0]}.{f.parts[1]}.{f.parts[2]}.AAAA.AAAA",
    "two parts": lambda f: ".".join(f.parts[:2]),
    "one part": lambda f: f.parts[0],
    "dots alone": lambda _: "..",
    "JSON serialisation": lambda f: b64(json.dumps({"payload": f.parts[1]}).encode()),
    "two tokens": lambda f: f"{f.true},{f.true}",
    "a long one": lambda f: f.make(claims={"x": "x" * 300_000}),
    "unicode letters": lambda f: f.true + "é",
    "unicode dots": lambda f: f.true.replace(".", "·"),
    # something else of ours
    "the refresh token": lambda f: str(f.session["refresh_token"]),
    "an invitation": lambda f: admin.mint_invite(f.services, by=None).text,
    "the session's id": lambda f: str(f.session["session"]["id"]),
    "the user's id": lambda f: str(f.session["user_id"]),
    "the password": lambda _: PASSWORD.replace(" ", "-"),
    # true ones of what is no more
    "of an ended session": ended,
    "of a session that is gone": session_gone,
    "of a session that is too old": session_too_old,
    "of a session unused too long": session_idle,
    "of a deleted user": deleted,
    "of a disabled user": disabled,
}


@dataclass(frozen=True)
class Made:
    """The installation that each test gets a copy of: two users, and a session of each."""

    data: Path
    session: dict[str, Any]
    other: dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tools: Tools, empty: Path) -> Made:
    data = tmp_path_factory.mktemp("made") / "data"
    with filling(data, tools, empty) as (client, _):

        def user(email: str) -> dict[str, Any]:
            session = dict(sign_up(client, email))
            me = client.get("/v1/users/me", headers=session["headers"])
            return {**session, "user_id": me.json()["id"]}

        return Made(data, user("ada@example.org"), user("eve@example.org"))


@pytest.fixture(scope="module")
def installed(made: Made) -> Path:
    return made.data


@pytest.fixture
def forger(services: Services, clock: Clock, made: Made) -> Forger:
    return Forger(services, clock, made.session, made.other)


def test_a_token_made_by_hand_is_good(client: TestClient, forger: Forger) -> None:
    """So the rows of the table are refused for what they change, and for nothing else."""
    assert forger.make() == forger.true
    later = forger.make(claims={"exp": now_s(forger) + 10})
    for token in (forger.true, later):
        answer = client.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["email"] == "ada@example.org"


def test_the_table_is_long_enough() -> None:
    assert len(FORGED) >= 25


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(client: TestClient, forger: Forger, name: str) -> None:
    """In the header and, where a client can send such a cookie, as that."""
    token = FORGED[name](forger)
    raw = b"Bearer " + token.encode("utf-8")
    answer = client.get("/v1/users/me", headers={b"Authorization": raw})
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] in {"token_invalid", "token_expired", "session_ended"}
    if "unicode" not in name:
        cookie = {"Cookie": f"__Host-telecine_access={token}"}
        assert client.get("/v1/users/me", headers=cookie).status_code == 401


def test_the_true_token_is_good_as_a_cookie(client: TestClient, forger: Forger) -> None:
    cookie = {"Cookie": f"__Host-telecine_access={forger.true}"}
    assert client.get("/v1/users/me", headers=cookie).status_code == 200


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic YWRhOnB3", "bearer", "Digest x"])
def test_no_token_is_no_login(client: TestClient, value: str) -> None:
    answer = client.get("/v1/users/me", headers={"Authorization": value})
    assert answer.status_code == 401, answer.text


def test_a_bad_header_is_not_made_good_by_a_cookie(client: TestClient, forger: Forger) -> None:
    cookie = f"__Host-telecine_access={forger.true}"
    for value in ("Bearer x.y.z", "Basic YWRhOnB3"):
        headers = {"Cookie": cookie, "Authorization": value}
        assert client.get("/v1/users/me", headers=headers).status_code == 401


def test_the_word_bearer_is_read_in_any_case(client: TestClient, forger: Forger) -> None:
    for word in ("bearer", "BEARER", "Bearer"):
        answer = client.get("/v1/users/me", headers={"Authorization": f"{word} {forger.true}"})
        assert answer.status_code == 200


def test_what_a_token_says(forger: Forger) -> None:
    claims = forger.claims
    assert forger.header == {"alg": "HS256", "typ": "at+jwt", "kid": forger.header["kid"]}
    assert set(claims) == {"iss", "aud", "sub", "sid", "iat", "nbf", "exp"}
    assert claims["sub"] == forger.session["user_id"]
    assert claims["sid"] == forger.session["session"]["id"]
    assert claims["exp"] - claims["iat"] == forger.services.settings.access_ttl_s
    assert forger.key().hex() not in forger.header["kid"]


# --- nothing that is kept can be used ---------------------------------------------------------


def used_up(client: TestClient, services: Services) -> dict[str, str]:
    """Use everything that hands out secrets; the secrets by name."""
    root = admin.create_user(
        services, email="root@example.org", password="root's long password 1", role="admin"
    )
    found: dict[str, str] = {"admin's password": "root's long password 1", "password": PASSWORD}
    grace = dict(sign_up(client, GRACE))
    headers = grace["headers"]
    found["access token"] = grace["access_token"]
    found["refresh token"] = grace["refresh_token"]
    again = client.post("/v1/sessions/refresh", json={"refresh_token": grace["refresh_token"]})
    found["access token 2"] = again.json()["access_token"]
    found["refresh token 2"] = again.json()["refresh_token"]
    key = client.post(
        "/v1/api-keys",
        json={"name": "k", "scopes": ["jobs:read"]},
        headers={**headers, "Idempotency-Key": "one"},
    )
    found["API key"] = key.json()["secret"]
    client.get("/v1/jobs", headers={"Authorization": f"Bearer {found['API key']}"})
    with TestClient(client.app, base_url=HTTPS) as browser:
        login = browser.post(
            "/v1/sessions",
            json={"email": GRACE, "password": PASSWORD, "cookies": True},
        )
        assert login.status_code == 201
        for name in ("access", "refresh", "csrf"):
            found[f"{name} cookie"] = browser.cookies[f"__Host-telecine_{name}"]
    found["invitation"] = admin.mint_invite(services, by=root.id).text
    found["reset"] = admin.mint_password_reset(services, root.id, by=root.id).text
    new = {"current_password": PASSWORD, "password": "another long password 2"}
    assert client.put("/v1/users/me/password", json=new, headers=headers).status_code == 204
    found["new password"] = new["password"]
    wrong = {"email": GRACE, "password": "a wrong password, mistyped"}
    assert client.post("/v1/sessions", json=wrong).status_code == 401
    found["mistyped password"] = wrong["password"]
    admin.change_user(services, root.id, UserChange(max_running_jobs=2))
    return found


def spellings(secret: str) -> set[bytes]:
    """The ways in which a secret could have been written down."""
    raw = secret.encode()
    found = {raw, b64(raw).encode(), base64.b64encode(raw), raw.hex().encode()}
    last = secret.rpartition("." if "." in secret else "_")[2]
    if len(last) == 64:  # 32 random bytes in hex
        found |= {last.encode(), bytes.fromhex(last), base64.b64encode(bytes.fromhex(last))}
    elif "." in secret:  # a token without its signature is public: the signature is the secret
        found = {last.encode(), unb64(last), unb64(last).hex().encode()}
    return found


def test_nothing_in_the_database_can_be_used(client: TestClient, services: Services) -> None:
    found = used_up(client, services)
    services.database.close()
    folder = Path(services.settings.data)
    kept = b"".join(path.read_bytes() for path in sorted(folder.glob("telecine.db*")))
    # The search would find them: what they are kept as is there.
    for name in ("refresh token", "refresh token 2", "API key", "invitation", "reset"):
        assert hashlib.sha256(found[name].encode()).hexdigest().encode() in kept, name
    assert b"$argon2id$" in kept
    hit = [name for name, secret in found.items() if any(s in kept for s in spellings(secret))]
    assert hit == []


def test_nothing_in_the_log_can_be_used(
    client: TestClient,
    services: Services,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    found = used_up(client, services)
    captured = capsys.readouterr()
    logged = (captured.out + captured.err + caplog.text).encode()
    assert b"session_started" in logged
    hit = [name for name, secret in found.items() if any(s in logged for s in spellings(secret))]
    assert hit == []
