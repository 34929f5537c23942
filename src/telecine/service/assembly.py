"""Settings → `Services`: the one place where a process chooses its database, storage and bell."""

from __future__ import annotations

from telecine.engine.tools import Tools, find_tools
from telecine.service.db.connection import Database
from telecine.service.dispatch.local import LocalBell
from telecine.service.services import Services
from telecine.service.settings import Settings
from telecine.service.signing import Signer, load_secret
from telecine.service.storage.local import LocalStorage


def open_services(settings: Settings, tools: Tools | None = None) -> Services:
    """What one process needs. Makes the data folder; migrates nothing. `tools`: those that this
    process has found already.

    Raises `OSError`, `ToolMissing`, `StepFailed` (`sandbox_unavailable`).
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    return Services(
        settings=settings,
        database=Database(settings.database_url),
        storage=LocalStorage(settings.data / "objects"),
        bell=LocalBell(settings.data / "bells"),
        signer=Signer(load_secret(settings.data / "secret.key")),
        tools=tools or find_tools(settings.ffmpeg, allow_unsandboxed=settings.allow_unsandboxed),
    )
