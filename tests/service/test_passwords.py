"""Passwords: which are taken, how they are kept, how many are hashed at once."""

from __future__ import annotations

import dataclasses
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import argon2
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from tests.service.conftest import PASSWORD, sign_up
from tests.waiting import until

from telecine.service.api.app import make_app
from telecine.service.db import tables
from telecine.service.domain import Invalid, TooMany
from telecine.service.passwords import Passwords, check_new_password, common_passwords
from telecine.service.services import Services

# The first of the lists that are published of passwords in leaks, from 8 characters on.
COMMON = [
    "password",
    "12345678",
    "123456789",
    "1234567890",
    "qwertyuiop",
    "iloveyou",
    "password1",
    "password123",
    "princess",
    "sunshine",
    "football",
    "baseball",
    "1q2w3e4r",
    "1qaz2wsx",
    "superman",
    "trustno1",
    "11111111",
    "abcd1234",
    "qwerty123",
    "starwars",
    "whatever",
    "michelle",
    "jennifer",
    "computer",
    "123123123",
    "987654321",
    "asdfghjkl",
    "letmein1",
    "passw0rd",
    "welcome1",
    "admin123",
    "changeme",
    "P@ssw0rd",
    "Password1",
    "QWERTY123",
    "Welcome123",
]


def kept(services: Services) -> str:
    with services.database.read() as tx:
        return str(tx.connection.execute(sa.select(tables.users.c.password_hash)).scalar_one())


def log_in(client: TestClient, password: str, email: str = "ada@example.org") -> int:
    body = {"email": email, "password": password}
    return client.post("/v1/sessions", json=body).status_code


# --- which are taken ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_short"),
        ("seven 7", "password_short"),
        ("ééééééé", "password_short"),
        ("eight 8!", None),
        ("        ", None),  # no rule of composition
        ("пароль-и-соль", None),
        ("🦉🦊🐻🐼🐨🐯🦁🐮", None),
        ("x1" * 128, None),
        ("x1" * 128 + "y", "password_long"),
        ("ﬁ" * 256, None),  # as many as are typed: no compatibility forms are taken apart
        ("ada@example.org", "password_common"),
        ("Ada@Example.org", "password_common"),
    ],
)
def test_length_is_all_that_is_asked_for(password: str, code: str | None) -> None:
    if code is None:
        check_new_password(password, "ada@example.org")
        return
    with pytest.raises(Invalid) as told:
        check_new_password(password, "ada@example.org")
    assert told.value.code == code


def test_the_own_name_is_no_password() -> None:
    with pytest.raises(Invalid) as told:
        check_new_password("Countess-of-L", "countess-of-l@example.org")
    assert told.value.code == "password_common"


@pytest.mark.parametrize("password", COMMON)
def test_what_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as told:
        check_new_password(password, "ada@example.org")
    assert told.value.code == "password_common"


def test_the_list_is_of_use() -> None:
    words = common_passwords()
    assert len(words) >= 500
    assert all(len(word) >= 8 and word == word.casefold() == word.strip() for word in words)


# --- how they are kept --------------------------------------------------------------------------


def test_the_parameters_of_a_hash() -> None:
    """64 MiB, three passes, four lanes: above OWASP's least; read by Argon2's own library."""
    with Passwords().turn() as hasher:
        text = hasher.hash(PASSWORD)
    assert text.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    parameters = argon2.extract_parameters(text)
    assert parameters.type is argon2.Type.ID
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert argon2.PasswordHasher().verify(text, PASSWORD)


def test_checking_an_unknown_users_password_is_the_same_work() -> None:
    passwords = Passwords()
    with passwords.turn() as hasher:
        assert not hasher.fits(PASSWORD, hasher.decoy)
        real, decoy = argon2.extract_parameters(hasher.hash("x")), hasher.decoy
    assert argon2.extract_parameters(decoy) == real


def test_equal_passwords_have_different_hashes() -> None:
    with Passwords(time_cost=1, memory_kib=64, lanes=1).turn() as hasher:
        assert hasher.hash(PASSWORD) != hasher.hash(PASSWORD)


@pytest.mark.parametrize("length", [64, 65, 72, 73, 128, 255, 256])
def test_nothing_is_cut_off(client: TestClient, length: int) -> None:
    password = "x1" * 128
    password = password[: length - 1] + "y"
    sign_up(client, password=password)
    assert log_in(client, password[:-1] + "z") == 401
    assert log_in(client, password[:-1]) == 401
    assert log_in(client, password) == 201


def test_a_password_is_the_same_on_every_keyboard(client: TestClient) -> None:
    composed = unicodedata.normalize("NFC", "Ångström-é-8")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    sign_up(client, password=composed)
    assert log_in(client, decomposed) == 201
    assert log_in(client, "Angstrom-e-8") == 401


def test_spaces_and_case_count(client: TestClient) -> None:
    sign_up(client, password=" Spaces around 8 ")
    assert log_in(client, " Spaces around 8 ") == 201
    assert log_in(client, "Spaces around 8") == 401
    assert log_in(client, " spaces around 8 ") == 401


def test_a_hash_is_made_again_when_more_work_is_asked_for(
    client: TestClient, services: Services
) -> None:
    sign_up(client)
    assert kept(services).startswith("$argon2id$v=19$m=64,t=1,p=1$")

    def with_costs(time_cost: int, memory_kib: int) -> TestClient:
        dearer = Passwords(time_cost=time_cost, memory_kib=memory_kib, lanes=1)
        return TestClient(make_app(dataclasses.replace(services, passwords=dearer)))

    assert log_in(with_costs(2, 64), "wrong") == 401
    assert kept(services).startswith("$argon2id$v=19$m=64,t=1,p=1$")
    for time_cost, memory_kib, expected in (
        (2, 64, "m=64,t=2"),
        (2, 128, "m=128,t=2"),
        (1, 64, "m=128,t=2"),  # less is asked for: what is there is better
    ):
        assert log_in(with_costs(time_cost, memory_kib), PASSWORD) == 201
        assert kept(services).startswith(f"$argon2id$v=19${expected},p=1$")
    assert argon2.PasswordHasher().verify(kept(services), PASSWORD)


# --- how many at once ---------------------------------------------------------------------------


def test_two_are_hashed_at_once_and_the_others_wait() -> None:
    passwords = Passwords(time_cost=1, memory_kib=64, lanes=1)
    inside, most, lock = 0, 0, threading.Lock()

    def ask(_: int) -> None:
        nonlocal inside, most
        with passwords.turn():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))
    assert most == 2


def test_who_comes_on_top_is_told_to_come_again() -> None:
    passwords = Passwords(time_cost=1, memory_kib=64, lanes=1, at_once=1, waiting=1)
    started, leave = threading.Semaphore(0), threading.Event()

    def stay() -> None:
        with passwords.turn():
            started.release()
            leave.wait(60)

    with ThreadPoolExecutor(2) as pool:
        staying = [pool.submit(stay) for _ in range(2)]
        started.acquire()
        deadline = time.monotonic() + 30
        told: TooMany | None = None
        while told is None and time.monotonic() < deadline:
            told = refused(passwords)  # until the second one waits
        leave.set()
        for one in staying:
            one.result()
    assert told is not None
    assert (told.code, told.retry_after_s) == ("logins_busy", 1)
    with passwords.turn():
        pass  # room again


def refused(passwords: Passwords) -> TooMany | None:
    """Whether there is no room; takes no turn from those who wait."""
    if passwords._room.acquire(blocking=False):
        passwords._room.release()
        return None
    try:
        with passwords.turn():
            return None
    except TooMany as told:
        return told


def test_a_failure_gives_the_turn_back() -> None:
    passwords = Passwords(time_cost=1, memory_kib=64, lanes=1, at_once=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), passwords.turn():
            raise ZeroDivisionError
    with passwords.turn():
        pass


def test_a_crowd_at_the_door_leaves_the_rest_of_the_api_its_threads(
    services: Services,
) -> None:
    """While nobody gets a turn, some wait, the others are told, and what needs no password goes
    on."""
    passwords = Passwords(time_cost=1, memory_kib=64, lanes=1)
    app = make_app(dataclasses.replace(services, passwords=passwords))

    def knock(number: int) -> tuple[int, str]:
        body = {"email": f"u{number}@example.org", "password": "wrong"}
        answer = client.post("/v1/sessions", json=body)
        return answer.status_code, answer.json()["code"]

    with TestClient(app) as client, ThreadPoolExecutor(60) as pool:
        with passwords.turn(), passwords.turn():
            knocking = [pool.submit(knock, number) for number in range(60)]
            until(lambda: sum(one.done() for one in knocking) >= 36)
            told = [one.result() for one in knocking if one.done()]
            assert told == [(429, "logins_busy")] * 36
            assert client.get("/v1/users/me").status_code == 401
        for one in knocking:
            assert one.result()[1] in {"login_failed", "login_limited", "logins_busy"}
