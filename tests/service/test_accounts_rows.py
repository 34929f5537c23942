"""The rows of accounts on SQLite and on PostgreSQL alike: what must hold when two ask at once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy as sa
from tests.service.conftest import PASSWORD
from tests.service.databases import StoppedClock

from telecine.service import accounts, admin, api_keys, sessions
from telecine.service.accounts import Credentials
from telecine.service.admin import UserChange
from telecine.service.db import tables as t
from telecine.service.db.connection import Database
from telecine.service.domain import Conflict, Principal, ServiceError
from telecine.service.services import Services
from telecine.service.sessions import Opened

NEW = "another long password 8"


@pytest.fixture
def doors(services: Services, clocked: Database) -> Services:
    """The use cases over either database, with a clock that stands still."""
    return dataclasses.replace(services, database=clocked)


def sign_up(doors: Services, email: str = "ada@example.org", token: str | None = None) -> str:
    user = accounts.sign_up(
        doors, email=email, password=PASSWORD, name="", token=token, address="192.0.2.1"
    )
    return user.id


def log_in(doors: Services, password: str = PASSWORD) -> Opened:
    return sessions.log_in(
        doors, email="ada@example.org", password=password, address="192.0.2.1", user_agent=""
    )


def who(opened: Opened) -> Principal:
    return Principal(opened.user.id, "user", frozenset(), session_id=opened.session.id)


def ask(doors: Services, token: str) -> str | None:
    """Nothing for who is let in, else why not."""
    try:
        accounts.authenticate(doors, Credentials("GET", authorization=f"Bearer {token}"))
    except ServiceError as error:
        return error.code
    return None


def codes_of(acts: Sequence[Callable[[], object]]) -> list[str]:
    """What comes of acts that start at once, sorted; `ok` for those that went well."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> str:
        start.wait()
        try:
            act()
        except ServiceError as error:
            return error.code
        return "ok"

    with ThreadPoolExecutor(len(acts)) as pool:
        return sorted(pool.map(run, acts))


def test_a_session_from_beginning_to_end(doors: Services, stopped: StoppedClock) -> None:
    sign_up(doors)
    opened = log_in(doors)
    assert ask(doors, opened.access_token) is None
    stopped.now_s += doors.settings.access_ttl_s
    assert ask(doors, opened.access_token) == "token_expired"
    second = sessions.refresh(doors, opened.refresh_token)
    assert ask(doors, second.access_token) is None
    assert [s.id for s in sessions.list_mine(doors, who(opened), after=None, limit=9)] == [
        opened.session.id
    ]
    sessions.end(doors, who(opened), opened.session.id)
    assert ask(doors, second.access_token) == "session_ended"


@pytest.mark.parametrize(("seconds", "lives"), [(0, True), (10, True), (10.01, False)])
def test_ten_seconds_are_a_race(
    doors: Services, stopped: StoppedClock, seconds: float, lives: bool
) -> None:
    """Nobody has got the answer: asked again, there is one. Later it may be a thief who asks."""
    sign_up(doors)
    opened = log_in(doors)
    lost = sessions.refresh(doors, opened.refresh_token)
    stopped.now_s += seconds
    again = partial(sessions.refresh, doors, opened.refresh_token)
    assert codes_of([again]) == (["ok"] if lives else ["refresh_reused"])
    assert ask(doors, lost.access_token) == (None if lives else "session_ended")


def test_a_lost_answer_costs_no_session(doors: Services, stopped: StoppedClock) -> None:
    sign_up(doors)
    opened = log_in(doors)
    for _ in range(3):  # as often as they like, and the last answer arrives
        sessions.refresh(doors, opened.refresh_token)
        stopped.now_s += 3
    for _ in range(5):
        opened = sessions.refresh(doors, opened.refresh_token)
        assert ask(doors, opened.access_token) is None
        stopped.now_s += 3600


def test_of_two_who_hold_tokens_of_a_race_the_later_is_found_out(
    doors: Services, stopped: StoppedClock
) -> None:
    """A thief who was quick enough has a token beside the owner's: only one of the two goes on."""
    sign_up(doors)
    opened = log_in(doors)
    first, second = (sessions.refresh(doors, opened.refresh_token) for _ in range(2))
    stopped.now_s += 600
    thief = sessions.refresh(doors, second.refresh_token)
    stopped.now_s += 10.01
    assert codes_of([lambda: sessions.refresh(doors, first.refresh_token)]) == ["refresh_reused"]
    assert ask(doors, thief.access_token) == "session_ended"
    assert codes_of([lambda: sessions.refresh(doors, thief.refresh_token)]) == ["session_ended"]


def test_what_a_race_gave_was_used(doors: Services, stopped: StoppedClock) -> None:
    """Then whoever asks with the old token gets nothing; within the ten seconds it ends nothing."""
    sign_up(doors)
    opened = log_in(doors)
    second = sessions.refresh(doors, opened.refresh_token)
    stopped.now_s += 1
    third = sessions.refresh(doors, second.refresh_token)
    assert codes_of([lambda: sessions.refresh(doors, opened.refresh_token)]) == ["refresh_raced"]
    assert ask(doors, third.access_token) is None


@pytest.mark.parametrize(("left", "lives"), [(0.01, True), (0, False)])
@pytest.mark.parametrize("life", ["session_idle_s", "session_ttl_s"])
def test_lifetimes_to_the_moment(
    doors: Services, stopped: StoppedClock, life: str, left: float, lives: bool
) -> None:
    settings = doors.settings.model_copy(update={"session_idle_s": 10**9, life: 1000})
    doors = dataclasses.replace(doors, settings=settings)
    sign_up(doors)
    opened = log_in(doors)
    stopped.now_s += 1000 - left
    if lives:
        assert sessions.refresh(doors, opened.refresh_token)
    else:
        with pytest.raises(ServiceError) as told:
            sessions.refresh(doors, opened.refresh_token)
        assert told.value.code == "session_ended"


def test_refreshes_at_once_are_a_race_that_all_win(doors: Services) -> None:
    sign_up(doors)
    opened = log_in(doors)
    assert codes_of([lambda: sessions.refresh(doors, opened.refresh_token)] * 6) == ["ok"] * 6


def test_of_tokens_of_a_race_used_at_once_none_outlives_the_other(
    doors: Services, stopped: StoppedClock
) -> None:
    """Whatever the order: in the end one family of tokens is good, and a use beside it is found."""
    sign_up(doors)
    opened = log_in(doors)
    held = [sessions.refresh(doors, opened.refresh_token) for _ in range(4)]
    assert (
        codes_of([partial(sessions.refresh, doors, one.refresh_token) for one in held])
        == ["ok"] * 4
    )
    stopped.now_s += 10.01
    told = codes_of([lambda: sessions.refresh(doors, held[0].refresh_token)])
    assert told == ["refresh_reused"]


def test_of_sign_ups_at_once_one_gets_the_address(doors: Services) -> None:
    assert codes_of([lambda: sign_up(doors)] * 6) == ["email_taken"] * 5 + ["ok"]


def test_an_invitation_is_good_once(doors: Services) -> None:
    invited = dataclasses.replace(
        doors, settings=doors.settings.model_copy(update={"signup": "invite"})
    )
    token = admin.mint_invite(doors, by=None).text
    acts = [partial(sign_up, invited, f"u{n}@example.org", token) for n in range(6)]
    assert codes_of(acts) == ["ok"] + ["one_time_token_invalid"] * 5


def test_of_two_last_administrators_one_stays(doors: Services) -> None:
    for _ in range(5):
        ids = [
            admin.create_user(doors, email=f"{n}@example.org", password=PASSWORD, role="admin").id
            for n in ("a", "b")
        ]
        acts: list[Callable[[], object]] = [
            partial(admin.change_user, doors, ids[0], UserChange(role="user")),
            partial(admin.delete_user, doors, ids[1]),
        ]
        assert codes_of(acts) == ["last_admin", "ok"]
        with doors.database.write() as tx:
            tx.connection.execute(sa.delete(t.users))


def test_no_log_in_slips_past_a_change_of_password(doors: Services) -> None:
    """Whichever came first: what opened by the old password is ended afterwards."""
    sign_up(doors)
    opened: list[Opened] = []
    first = log_in(doors)
    acts: list[Callable[[], object]] = [
        *[lambda: opened.append(log_in(doors))] * 4,
        lambda: accounts.change_password(doors, who(first), current=PASSWORD, password=NEW),
    ]
    assert set(codes_of(acts)) <= {"ok", "login_failed"}
    assert ask(doors, first.access_token) is None
    assert [ask(doors, one.access_token) for one in opened] == ["session_ended"] * len(opened)
    assert log_in(doors, NEW)


def test_a_key_from_beginning_to_end(doors: Services, stopped: StoppedClock) -> None:
    sign_up(doors)
    opened = log_in(doors)
    made = api_keys.create(
        doors, who(opened), name="k", scopes=["jobs:read", "jobs:read"], expires_in_s=100
    )
    assert made.key.scopes == ("jobs:read",)
    assert made.key.expires_at == stopped.now_s + 100
    stopped.now_s += 99.9
    assert ask(doors, made.text) is None
    (listed,) = api_keys.list_mine(doors, who(opened), after=None, limit=9)
    assert listed.last_used_at == pytest.approx(stopped.now_s)
    stopped.now_s += 0.1
    assert ask(doors, made.text) == "key_invalid"
    other = api_keys.create(doors, who(opened), name="k", scopes=["jobs:read"], expires_in_s=None)
    api_keys.revoke(doors, who(opened), other.key.id)
    assert ask(doors, other.text) == "key_invalid"


def test_a_user_goes_with_everything(doors: Services) -> None:
    user_id = sign_up(doors)
    opened = log_in(doors)
    key = api_keys.create(doors, who(opened), name="k", scopes=["jobs:read"], expires_in_s=None)
    admin.mint_password_reset(doors, user_id, by=user_id)
    accounts.delete(doors, who(opened), password=PASSWORD)
    assert ask(doors, opened.access_token) == "session_ended"
    assert ask(doors, key.text) == "key_invalid"
    with doors.database.read() as tx:
        for table in (t.users, t.sessions, t.refresh_tokens, t.api_keys, t.one_time_tokens):
            assert tx.connection.execute(sa.select(table)).all() == [], table.name
    sign_up(doors)  # the address is free again


def test_the_first_administrators_token(doors: Services) -> None:
    token = admin.first_admin_token(doors)
    sign_up(doors, token=token)
    assert admin.first_admin_token(doors) is None
    with pytest.raises(Conflict):
        admin.delete_user(doors, admin.find_user(doors, "ada@example.org").id)
