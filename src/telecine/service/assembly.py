"""Settings → `Services`: the one place where a process chooses its database, storage and bell."""

from __future__ import annotations

from telecine.engine.images.pool import ImageWorkers
from telecine.engine.tools import Tools, find_tools
from telecine.service.db.connection import Database
from telecine.service.dispatch.local import LocalBell
from telecine.service.image_desk import ImageDesk
from telecine.service.services import Services
from telecine.service.settings import Settings
from telecine.service.signing import Signer, load_secret
from telecine.service.storage.local import LocalStorage


def open_services(
    settings: Settings, tools: Tools | None = None, *, image_workers: int = 1
) -> Services:
    """What one process needs. Makes the data folder; migrates nothing. `tools`: those that this
    process has found already; `image_workers`: how many it may have at most, each of which is
    started when it is first needed.

    Raises `OSError`, `ToolMissing`, `StepFailed` (`sandbox_unavailable`).
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    tools = tools or find_tools(settings.ffmpeg, allow_unsandboxed=settings.allow_unsandboxed)
    return Services(
        settings=settings,
        database=Database(settings.database_url),
        storage=LocalStorage(settings.data / "objects"),
        bell=LocalBell(settings.data / "bells"),
        signer=Signer(load_secret(settings.data / "secret.key")),
        tools=tools,
        images=ImageWorkers(tools, count=image_workers, limits=settings.image_limits),
        image_desk=ImageDesk(
            at_once=image_workers, waiting=settings.image_queue, per_minute=settings.image_rate
        ),
    )
