"""What the use cases work with, made once a process."""

from __future__ import annotations

from dataclasses import dataclass, field

from telecine.engine.images.pool import ImageWorkers
from telecine.engine.tools import Tools
from telecine.service.db.connection import Database
from telecine.service.dispatch.bell import Bell
from telecine.service.image_desk import ImageDesk
from telecine.service.login_limits import LoginLimits
from telecine.service.passwords import Passwords
from telecine.service.settings import Settings
from telecine.service.signing import Signer
from telecine.service.storage.store import Storage


@dataclass(frozen=True, slots=True)
class Services:
    """One process's doors to the world. Use cases take them as an argument and keep nothing."""

    settings: Settings
    database: Database
    storage: Storage
    bell: Bell
    signer: Signer
    tools: Tools
    images: ImageWorkers
    image_desk: ImageDesk
    passwords: Passwords = field(default_factory=Passwords)
    login_limits: LoginLimits = field(default_factory=LoginLimits)

    def close(self) -> None:
        """End its children and its connections."""
        self.images.close()
        self.image_desk.close()
        self.database.close()
