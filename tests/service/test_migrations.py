"""Migrations make exactly the tables of `db/tables.py`: all or none, one process at a time."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.service.databases import fresh_database
from tests.service.in_processes import migrate_together

from telecine.service.db import migrate as migrating
from telecine.service.db.connection import Database
from telecine.service.db.migrate import is_current, migrate
from telecine.service.db.tables import metadata
from telecine.service.domain import Unavailable

ROOT = Path(__file__).parents[2]
PROCESSES = 4
HEAD = max(path.name[1:5] for path in (migrating.FOLDER / "versions").glob("r[0-9]*.py"))


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
def bare(bare_url: str) -> Iterator[Database]:
    opened = Database(bare_url)
    yield opened
    opened.close()


def tables_of(database: Database) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names())


def test_the_migrations_make_the_tables_that_the_code_knows(bare: Database) -> None:
    migrate(bare)
    with bare.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            # SQLite gives defaults back in words of its own; the next test compares those.
            opts={"compare_type": True, "compare_server_default": not bare.sqlite},
        )
        assert compare_metadata(context, metadata) == []
    assert tables_of(bare) == {*metadata.tables, "alembic_version"}


def test_they_are_the_same_to_the_letter(tmp_path: Path) -> None:
    """What alembic does not compare (checks, partial indexes, rules of foreign keys)."""

    def ddl(database: Database) -> set[str]:
        with database.engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
            )
            return {_ordered(row[0]) for row in found if "alembic_version" not in row[0]}

    migrated, created = (Database(f"sqlite:///{tmp_path / name}") for name in ("a.db", "b.db"))
    migrate(migrated)
    metadata.create_all(created.engine)
    assert ddl(migrated) == ddl(created)
    for database in (migrated, created):
        database.close()


def _ordered(statement: str) -> str:
    """A statement with its lines in order: where a constraint stands in it does not matter, nor
    that of a table that was made anew SQLite quotes the name and has defaults in parentheses."""
    lines = statement.replace('"', "").replace("('')", "''").splitlines()
    return "\n".join(sorted(line.strip().rstrip(",") for line in lines))


def fill(database: Database) -> None:
    """One row in every table, each naming those of the tables that it refers to."""
    with database.write() as tx:
        for table in metadata.sorted_tables:
            row = {column.name: _any_value(column) for column in table.columns}
            tx.connection.execute(sa.insert(table).values(**row))


def _any_value(column: sa.Column[object]) -> object:
    match column.type:
        case sa.JSON():
            return {"a": [1, "é"]}
        case sa.Boolean():
            return True
        case sa.LargeBinary():
            return b"\x00\xff"
        case sa.Integer() | sa.Double():
            return 1
        case _:
            return "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_up_down_and_up_with_data(bare: Database) -> None:
    migrate(bare)
    fill(bare)
    with bare.read() as tx:
        for table in metadata.sorted_tables:
            count = sa.select(sa.func.count()).select_from(table)
            assert tx.connection.execute(count).scalar() == 1, table.name
    migrate(bare, "base")
    assert tables_of(bare) == {"alembic_version"}
    assert not is_current(bare)
    migrate(bare)
    assert tables_of(bare) == {*metadata.tables, "alembic_version"}
    fill(bare)


def test_what_is_kept_is_known_from_the_second_revision_on(bare: Database) -> None:
    """Attempts of the first: one published a job's files, one goes on, one came to nothing."""
    migrate(bare, "0001")
    rows = (
        "users (id, email, password_hash, role, created_at) VALUES ('U', 'e', 'h', 'user', 1)",
        "assets (id, user_id, state, visibility, title, filename, content_type, source_size_bytes,"
        " uploaded_at, created_at, updated_at)"
        " VALUES ('A', 'U', 'ready', 'private', '', '', '', 1, 1, 1, 1)",
        "jobs (id, user_id, asset_id, state, priority, outputs, metadata, source_policy, prefix,"
        " created_at) VALUES ('J', 'U', 'A', 'succeeded', 0, '[]', '{}', 'keep', 'p/1', 1)",
        "tasks (id, job_id, user_id, kind, position, priority, weight_s, state, epoch)"
        " VALUES ('T', 'J', 'U', 'noop', 0, 0, 1, 'running', 3)",
        *(
            "attempts (task_id, epoch, job_id, prefix, worker, claimed_at, ended_at)"
            f" VALUES ('T', {epoch}, 'J', 'p/{epoch}', 'w', 5, {ended_at})"
            for epoch, ended_at in ((1, "7"), (2, "9"), (3, "NULL"))
        ),
    )
    with bare.write() as tx:
        for row in rows:
            tx.connection.exec_driver_sql(f"INSERT INTO {row}")
    migrate(bare)
    with bare.read() as tx:
        found = tx.connection.exec_driver_sql(
            "SELECT epoch, unneeded_at FROM attempts ORDER BY epoch"
        )
        assert [tuple(row) for row in found] == [(1, None), (2, 9.0), (3, None)]


def test_assets_without_a_picture_are_sound_from_the_third_revision_on(bare: Database) -> None:
    migrate(bare, "0002")
    with bare.write() as tx:
        tx.connection.exec_driver_sql(
            "INSERT INTO users (id, email, password_hash, role, created_at)"
            " VALUES ('U', 'e', 'h', 'user', 1)"
        )
        insert = sa.text(
            "INSERT INTO assets (id, user_id, state, visibility, title, filename, content_type,"
            " source_size_bytes, uploaded_at, created_at, updated_at, media)"
            " VALUES (:id, 'U', 'ready', 'private', '', '', '', 1, 1, 1, 1, :media)"
        )
        for name, media in (
            ("film", '{"video": [{"codec": "h264"}], "audio": []}'),
            ("song", '{"video": [], "audio": [{"codec": "mp3"}]}'),
            ("null", "null"),
            ("none", None),
        ):
            tx.connection.execute(insert, {"id": name, "media": media})
    migrate(bare)
    with bare.read() as tx:
        found = tx.connection.exec_driver_sql("SELECT id, kind FROM assets ORDER BY id")
        kinds = {row[0]: row[1] for row in found}
    assert kinds == {"film": "video", "song": "audio", "null": "video", "none": "video"}


def test_rows_are_kept_when_there_is_nothing_to_do(bare: Database) -> None:
    migrate(bare)
    fill(bare)
    migrate(bare)
    with bare.read() as tx:
        assert tx.connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar() == 1


def test_foreign_keys_hold_after_a_migration(bare: Database) -> None:
    """SQLite looks away while tables are made anew, and must look again afterwards."""
    migrate(bare)
    fill(bare)
    with bare.write() as tx:
        tx.connection.execute(sa.text("DELETE FROM users"))
        assert tx.connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar() == 0


def test_many_processes_migrate_at_once(bare_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    together, results = spawn.Barrier(PROCESSES), spawn.Queue()
    processes = [
        spawn.Process(target=migrate_together, args=(bare_url, together, results))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=120) for _ in processes] == [True] * PROCESSES
    for process in processes:
        process.join()


@pytest.fixture
def another_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's migrations in a folder of the test, where it may add one."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrating.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrating, "FOLDER", folder)
    return folder / "versions" / "r9999_next.py"


NEXT = """
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{head}"
def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.Integer, primary_key=True))
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("nickname", sa.String(20), nullable=False, server_default="-"))
    {then}
def downgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.drop_column("nickname")
    op.drop_table("later")
"""


def test_a_migration_that_fails_changes_nothing(bare: Database, another_revision: Path) -> None:
    another_revision.write_text(NEXT.format(head=HEAD, then="raise RuntimeError('halfway')"))
    with pytest.raises(RuntimeError, match="halfway"):
        migrate(bare)
    assert tables_of(bare) == set()
    migrate(bare, HEAD)
    fill(bare)
    with pytest.raises(RuntimeError, match="halfway"):
        migrate(bare)
    assert tables_of(bare) == {*metadata.tables, "alembic_version"}
    assert "nickname" not in {c["name"] for c in sa.inspect(bare.engine).get_columns("users")}


def test_the_next_revision_keeps_the_rows_up_and_down(
    bare: Database, another_revision: Path
) -> None:
    """A table that SQLite has to make anew takes nothing along that refers to it."""
    migrate(bare, HEAD)
    fill(bare)
    another_revision.write_text(NEXT.format(head=HEAD, then="pass"))
    assert not is_current(bare)
    migrate(bare)
    assert is_current(bare)
    with bare.read() as tx:
        assert tx.connection.execute(sa.text("SELECT nickname FROM users")).scalar() == "-"
        assert tx.connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar() == 1
    migrate(bare, HEAD)
    assert tables_of(bare) == {*metadata.tables, "alembic_version"}
    with bare.read() as tx:
        assert tx.connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar() == 1


def test_a_newer_database_is_left_alone(bare: Database) -> None:
    migrate(bare)
    with bare.write() as tx:
        tx.connection.execute(sa.text("UPDATE alembic_version SET version_num = 'ffff'"))
    with pytest.raises(Unavailable, match="newer") as refused:
        migrate(bare)
    assert refused.value.code == "database_newer"
    assert not is_current(bare)
    assert set(metadata.tables) <= tables_of(bare)


def test_a_database_without_tables_is_not_current(bare: Database) -> None:
    assert not is_current(bare)
    migrate(bare)
    assert is_current(bare)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel that users install."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as found:
        return set(found.namelist())


def test_the_wheel_holds_migrations_and_vendored_files(wheel: set[str]) -> None:
    package = ROOT / "src" / "telecine" / "service"
    wanted = [*(package / "db" / "migrations").rglob("*"), *(package / "api" / "static").rglob("*")]
    names = {
        str(path.relative_to(ROOT / "src"))
        for path in wanted
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(names) > 8
    assert names <= wheel
