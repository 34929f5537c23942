"""Everything that can be set, from the environment (`TELECINE_…`) and the command line. No other
module of the service reads the environment. docs/reference/settings.md says each in words."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from telecine.engine.errors import UsageError
from telecine.engine.images.values import ImageLimits

MB = 1_000_000
HOUR_S = 3600
DAY_S = 24 * HOUR_S
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Words = Annotated[tuple[str, ...], NoDecode]  # in the environment: one after another, by commas


class Settings(BaseSettings):
    """One installation. The command line's options win over the environment."""

    model_config = SettingsConfigDict(env_prefix="TELECINE_", frozen=True, extra="forbid")

    data: Annotated[Path, Field(description="Folder of everything that is kept.")] = Path(
        "telecine-data"
    )
    database: Annotated[
        str, Field(description="Database URL; empty: SQLite in the data folder.")
    ] = ""
    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65535, description="Port to listen on; 0: any free one.")
    ] = 8000
    public_url: Annotated[
        str, Field(description="How clients reach us; empty: from host and port.")
    ] = ""
    tls_cert: Annotated[Path | None, Field(description="Certificate chain (PEM).")] = None
    tls_key: Annotated[Path | None, Field(description="Private key (PEM).")] = None
    trusted_proxies: Annotated[
        Words, Field(description="Addresses whose `X-Forwarded-…` headers are believed.")
    ] = ()
    cors_origins: Annotated[
        Words, Field(description="Web origins, such as https://app.example, that may use the API.")
    ] = ()
    workers: Annotated[
        int, Field(ge=0, le=256, description="Worker processes of `telecine serve`.")
    ] = 2
    ffmpeg: Annotated[Path | None, Field(description="Another FFmpeg than the packaged one.")] = (
        None
    )
    allow_unsandboxed: Annotated[
        bool, Field(description="Decode uploads on a system that has no sandbox.")
    ] = False
    grace_s: Annotated[
        int, Field(ge=0, le=HOUR_S, description="How long a stop waits for what runs.")
    ] = 30
    lease_s: Annotated[
        int, Field(ge=3, le=HOUR_S, description="A worker that is silent for so long is lost.")
    ] = 30
    signup: Annotated[
        Literal["open", "invite", "closed"], Field(description="Who may sign up.")
    ] = "invite"
    access_ttl_s: Annotated[
        int, Field(ge=30, description="An access token is good for so long.")
    ] = 900
    session_idle_s: Annotated[int, Field(ge=60, description="A session ends unused.")] = 14 * DAY_S
    session_ttl_s: Annotated[int, Field(ge=60, description="A session ends anyway.")] = 90 * DAY_S
    max_upload_bytes: Annotated[
        int, Field(ge=1, description="Largest upload of a user who has no limit of their own.")
    ] = 100 * MB
    upload_ttl_s: Annotated[
        int, Field(ge=60, description="An unfinished upload lives so long.")
    ] = DAY_S
    max_running_jobs: Annotated[
        int, Field(ge=1, description="Jobs of one user that run at once.")
    ] = 5
    link_ttl_s: Annotated[int, Field(ge=10, le=7 * DAY_S, description="Life of a signed link.")] = (
        HOUR_S
    )
    image_workers: Annotated[
        int, Field(ge=0, le=256, description="Processes that make pictures for URLs; 0: one a CPU.")
    ] = 0
    image_queue: Annotated[
        int, Field(ge=1, le=10_000, description="Pictures that may wait to be made; then 429.")
    ] = 64
    image_rate: Annotated[
        int, Field(ge=1, description="Pictures that one user may have made in a minute.")
    ] = 1200
    image_cache_bytes: Annotated[
        int, Field(ge=0, description="Room for pictures that were made for URLs.")
    ] = 10_000 * MB
    image_max_pixels: Annotated[
        int, Field(ge=1, description="Width × height × frames of a picture at most.")
    ] = 100_000_000
    image_max_frames: Annotated[
        int, Field(ge=1, le=100_000, description="Frames of an animation at most.")
    ] = 300
    image_svg: Annotated[
        bool, Field(description="Take SVG drawings: cleaned, and drawn in the sandbox.")
    ] = False
    log_json: Annotated[
        bool | None,
        Field(description="Logs as JSON; else for people, as on a terminal unless told."),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="What is logged at least.")
    ] = "info"

    @field_validator("trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # No `*` and no `null`: answers to these origins may be read with the user's cookies.
        wrong = [word for word in value if not _ORIGIN.fullmatch(word)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no origin such as https://app.example")
        return value

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value and not _ORIGIN.fullmatch(value.rstrip("/")):
            raise ValueError("a scheme, a host and a port, such as https://media.example")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_tls(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        return self

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.resolve() / 'telecine.db'}"

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            pixels=self.image_max_pixels, frames=self.image_max_frames, svg=self.image_svg
        )

    @property
    def image_processes(self) -> int:
        """How many make pictures for URLs."""
        return self.image_workers or len(os.sched_getaffinity(0))

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def base_url(self) -> str:
        """What links and the address at start begin with, without a slash at the end."""
        if self.public_url:
            return self.public_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether clients reach us by TLS, ours or that of a proxy before us."""
        return self.base_url.startswith("https:")


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of another process of this installation: ours, with these settings."""
    found = dict(os.environ)  # noqa: TID251
    for name, value in settings.model_dump().items():
        if value is not None:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            found[f"TELECINE_{name.upper()}"] = text
    return found


_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?")


def read_settings(**given: Any) -> Settings:
    """The settings of the environment and, before them, those given here; None: not given.

    Raises `UsageError` (`setting_invalid`).
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        message = f"{name}: {first['msg']}" if name else str(first["msg"])
        raise UsageError(message, code="setting_invalid") from None
