"""The Python client of a Telecine service: typed, blocking, and careful with broken connections."""

from telecine.client.answers import (
    ApiKey,
    Asset,
    Failure,
    ImageKey,
    Job,
    JobEvent,
    NewApiKey,
    NewImageKey,
    Output,
    Playback,
    Progress,
    PublicAsset,
    Session,
    Source,
    Stage,
    Upload,
    User,
)
from telecine.client.client import Client
from telecine.client.errors import (
    ApiError,
    ClientError,
    ConnectionFailed,
    DigestMismatch,
    FileChanged,
    UnexpectedAnswer,
)
from telecine.client.images import ImageUrls
from telecine.client.tokens import MemoryKeeper, TokenKeeper, Tokens
from telecine.client.wishes import ImageOutput

__all__ = [
    "ApiError",
    "ApiKey",
    "Asset",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "DigestMismatch",
    "Failure",
    "FileChanged",
    "ImageKey",
    "ImageOutput",
    "ImageUrls",
    "Job",
    "JobEvent",
    "MemoryKeeper",
    "NewApiKey",
    "NewImageKey",
    "Output",
    "Playback",
    "Progress",
    "PublicAsset",
    "Session",
    "Source",
    "Stage",
    "TokenKeeper",
    "Tokens",
    "UnexpectedAnswer",
    "Upload",
    "User",
]
