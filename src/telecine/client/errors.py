"""What a call of the client can raise.

ClientError
├── ApiError          the service answered, and said no: status, code, message, request_id
├── ConnectionFailed  the service gave no answer, or only half of one, however often it was asked
├── DigestMismatch    what was downloaded is not what the service says that it made
├── FileChanged       the file on disk became another one while it was being sent
└── UnexpectedAnswer  the answer is none that this client knows how to read
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of the tree: one clear line."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ApiError(ClientError):
    """The service refused or failed. `code` is stable and stands in docs/reference/errors.md;
    `request_id` finds the request in the service's logs; `retry_after_s` says when to ask again,
    where the service said so."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class ConnectionFailed(ClientError):
    """No answer: the service is not there, or the connection broke each time."""


class DigestMismatch(ClientError):
    """The bytes are not those that were promised: nothing is left at the file's name."""


class FileChanged(ClientError):
    """The file is not the one whose first part was sent: send it anew."""


class UnexpectedAnswer(ClientError):
    """The answer is not what this client expects: another service, or another version of it."""
