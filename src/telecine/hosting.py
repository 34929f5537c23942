"""The commands that run a service: serve, worker, admin.

They stand on `telecine.service`, which is imported only once one of them runs.
"""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telecine.engine.errors import StepFailed, UsageError
from telecine.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from telecine.service.services import Services

COMMANDS = ("serve", "worker", "admin")


# --- words ------------------------------------------------------------------------------------


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """The grammar of these commands: what `--help` and docs/reference/cli.md say."""
    serve = _command(commands, "serve", "Run the service: its API and its workers.")
    _add_place(serve)
    serve.add_argument("--host", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, metavar="PORT", help="port to listen on (8000)")
    serve.add_argument("--workers", type=int, metavar="N", help="worker processes (2)")
    serve.add_argument("--public-url", metavar="URL", help="how clients reach the service")
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain (PEM)")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="private key (PEM)")
    serve.add_argument("--signup", metavar="WHO", help="who may sign up: open, invite or closed")

    worker = _command(commands, "worker", "Run one worker more.")
    _add_place(worker)
    worker.add_argument("--once", action="store_true", help="run one task, if there is one")
    worker.add_argument("--name", metavar="NAME", help="what the worker is called in the database")
    worker.add_argument(
        "--lifeline", type=int, metavar="FD", help="a pipe; the worker stops when it ends"
    )

    admin = _command(commands, "admin", "Look after the accounts, on the machine of the service.")
    _add_place(admin)
    acts = admin.add_subparsers(dest="act", metavar="ACT", required=True)
    _command(acts, "users", "List the users.")
    create = _command(acts, "create", "Create a user; the password is asked for.")
    create.add_argument("user", metavar="EMAIL")
    create.add_argument("--name", metavar="NAME", default="", help="what the user is called")
    create.add_argument("--role", choices=("user", "admin"), default="user", help="user or admin")
    for act, what in (
        ("reset-password", "Print a token that sets a new password, once."),
        ("disable", "End a user's sessions and let them in no more."),
        ("enable", "Let a disabled user in again."),
        ("promote", "Make a user an administrator."),
        ("demote", "Make an administrator a user."),
        ("delete", "Delete a user with everything that is theirs."),
    ):
        _command(acts, act, what).add_argument("user", metavar="USER", help="e-mail address or id")
    _command(acts, "invite", "Print a token with which someone may sign up, once.")
    _command(acts, "first-admin", "Print the token that makes the first administrator.")
    _command(acts, "migrate", "Bring the database to the tables of this version.")


def _command(
    commands: argparse._SubParsersAction[Any], name: str, what: str
) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what, allow_abbrev=False
    )
    return sub


def _add_place(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of everything kept (telecine-data)"
    )
    sub.add_argument("--database", metavar="URL", help="database (SQLite in the data folder)")


# --- acts -------------------------------------------------------------------------------------


def run(found: argparse.Namespace) -> int:
    """Run a parsed command line; the exit code.

    Raises `UsageError` (`setting_invalid`, `service_missing`), and what the commands raise.
    """
    try:
        from telecine.service.domain import ServiceError
    except ImportError as error:  # the engine can be installed without the service
        raise UsageError(
            f"the service is not installed (no {error.name}): pip install 'telecine[serve]'",
            code="service_missing",
        ) from None
    acts = {"serve": _serve, "worker": _worker, "admin": _admin}
    try:
        return acts[found.command](found)
    except ServiceError as error:
        print(f"telecine: error[{error.code}]: {printable(error.message)}", file=sys.stderr)
        return StepFailed.exit_code


def _serve(found: argparse.Namespace) -> int:
    from telecine.service.serve import serve
    from telecine.service.settings import read_settings

    settings = read_settings(
        data=found.data,
        database=found.database,
        host=found.host,
        port=found.port,
        workers=found.workers,
        public_url=found.public_url,
        tls_cert=found.tls_cert,
        tls_key=found.tls_key,
        signup=found.signup,
    )
    return serve(settings, say=_print)


def _worker(found: argparse.Namespace) -> int:
    from telecine.service.serve import work
    from telecine.service.settings import read_settings

    settings = read_settings(data=found.data, database=found.database)
    name = found.name or f"{socket.gethostname()}-{os.getpid()}"
    return work(settings, name=name, once=found.once, lifeline=found.lifeline)


def _print(line: str) -> None:
    print(printable(line), flush=True)


# --- accounts ---------------------------------------------------------------------------------


def _admin(found: argparse.Namespace) -> int:
    from telecine.engine.tools import find_tools
    from telecine.service import logs
    from telecine.service.assembly import open_services
    from telecine.service.db.migrate import migrate
    from telecine.service.settings import read_settings

    settings = read_settings(data=found.data, database=found.database)
    logs.configure(json=False, level="warning")
    # Nothing is decoded here, so that a machine without a sandbox will do.
    services = open_services(settings, find_tools(settings.ffmpeg, allow_unsandboxed=True))
    migrate(services.database)
    acts: dict[str, Callable[[Services, argparse.Namespace], None]] = {
        "users": _list_users,
        "create": _create_user,
        "reset-password": _reset_password,
        "invite": _invite,
        "first-admin": _first_admin,
        "migrate": lambda *_: _print("the database is up to date"),
        "delete": _delete_user,
    }
    acts.get(found.act, _change_user)(services, found)
    services.close()
    return 0


def _list_users(services: Services, _found: argparse.Namespace) -> None:
    from telecine.service import admin

    after = None
    while users := admin.list_users(services, after=after, limit=100):
        for user in users:
            state = "disabled" if user.disabled else user.role
            _print(f"{user.id}  {state:<8}  {user.email}  {user.name}".rstrip())
        after = users[-1].id


def _create_user(services: Services, found: argparse.Namespace) -> None:
    from telecine.service import admin

    user = admin.create_user(
        services, email=found.user, password=_ask_password(), name=found.name, role=found.role
    )
    _print(user.id)


def _ask_password() -> str:
    """On a terminal asked for twice, else one line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise UsageError("the two passwords differ", code="usage")
    return password


def _reset_password(services: Services, found: argparse.Namespace) -> None:
    from telecine.service import admin

    user = admin.find_user(services, found.user)
    _print(admin.mint_password_reset(services, user.id, by=None).text)


def _invite(services: Services, _found: argparse.Namespace) -> None:
    from telecine.service import admin

    _print(admin.mint_invite(services, by=None).text)


def _first_admin(services: Services, _found: argparse.Namespace) -> None:
    from telecine.service import admin

    token = admin.first_admin_token(services)
    if token is None:
        raise UsageError("there is an administrator already", code="usage")
    _print(token)


def _change_user(services: Services, found: argparse.Namespace) -> None:
    from telecine.service import admin

    changes = {
        "disable": admin.UserChange(disabled=True),
        "enable": admin.UserChange(disabled=False),
        "promote": admin.UserChange(role="admin"),
        "demote": admin.UserChange(role="user"),
    }
    user = admin.find_user(services, found.user)
    admin.change_user(services, user.id, changes[found.act])


def _delete_user(services: Services, found: argparse.Namespace) -> None:
    from telecine.service import admin

    admin.delete_user(services, admin.find_user(services, found.user).id)
