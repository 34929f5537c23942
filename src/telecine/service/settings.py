"""Everything that can be set, from the environment (`TELECINE_…`) and the command line. No other
module of the service reads the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MB = 1_000_000
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    """One installation. The command line's options win over the environment."""

    model_config = SettingsConfigDict(env_prefix="TELECINE_", frozen=True, extra="forbid")

    data: Path = Field(Path("telecine-data"), description="Folder of everything that is kept.")
    database: str = Field("", description="Database URL; empty: SQLite in the data folder.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    public_url: str = Field("", description="How clients reach us; empty: from host and port.")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM).")
    tls_key: Path | None = Field(None, description="Private key (PEM).")
    workers: int = Field(2, ge=0, le=256, description="Worker processes of `telecine serve`.")
    signup: Literal["open", "invite", "closed"] = Field("invite", description="Who may sign up.")
    max_upload_bytes: int = Field(100 * MB, ge=1, description="Largest upload of a user.")
    max_running_jobs: int = Field(5, ge=1, description="Jobs of one user that run at once.")
    upload_ttl_s: int = Field(24 * 3600, ge=60, description="An unfinished upload lives so long.")
    access_ttl_s: int = Field(900, ge=30, description="An access token is good for so long.")
    session_idle_s: int = Field(14 * 24 * 3600, ge=60, description="A session ends unused.")
    session_ttl_s: int = Field(90 * 24 * 3600, ge=60, description="A session ends anyway.")
    link_ttl_s: int = Field(3600, ge=10, le=7 * 24 * 3600, description="Life of a signed link.")
    cors_origins: tuple[str, ...] = Field((), description="Web origins that may use the API.")
    log_json: bool = Field(True, description="Logs as JSON; else for people.")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.resolve() / 'telecine.db'}"

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def base_url(self) -> str:
        """What links and the address at start begin with, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"
