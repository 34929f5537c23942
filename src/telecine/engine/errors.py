"""Everything the engine raises, as one tree.

MediaError
├── UsageError      the caller asked for something that does not exist or does not fit   exit 2
├── InputRefused    this source cannot be transcoded, and trying again will not help     exit 3
├── StepFailed      a tool, the disk or a check failed                                   exit 4
│   ├── ToolMissing     no usable FFmpeg, or one that lacks what the plan needs
│   └── VerifyFailed    the output breaks a streaming rule; `broken` names each
└── Interrupted     cancelled from outside; nothing half-written stays                  exit 130

An error carries a stable `code` (listed in docs/reference/errors.md), whether a retry can help, and
where a program was involved its argv and the last lines it said. It never carries a secret.
"""

from __future__ import annotations

from collections.abc import Sequence


class MediaError(Exception):
    """Base of the tree: one clear line, a stable code, and what a retry could do."""

    exit_code = 4
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str,
        argv: Sequence[str] = (),
        log_tail: Sequence[str] = (),
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.argv = tuple(argv)
        self.log_tail = tuple(log_tail)
        if retryable is not None:
            self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(cls: type[MediaError], state: dict[str, object]) -> MediaError:
    """Unpickle: steps run in processes of their own and their errors cross back."""
    error = cls.__new__(cls)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class UsageError(MediaError):
    """Asked for something that does not exist or does not fit together."""

    exit_code = 2


class InputRefused(MediaError):
    """The source cannot be transcoded; the message names the cause."""

    exit_code = 3


class StepFailed(MediaError):
    """A tool, the disk or a check failed; `retryable` says whether it may go better next time."""

    exit_code = 4


class ToolMissing(StepFailed):
    """No usable FFmpeg was found, or it lacks an encoder or filter that the plan needs."""


class VerifyFailed(StepFailed):
    """The output breaks a streaming rule."""

    def __init__(self, message: str, *, broken: Sequence[str]) -> None:
        super().__init__(message, code="verify_failed")
        self.broken = tuple(broken)


class Interrupted(MediaError):
    """Cancelled from outside (Ctrl-C, a service's cancel)."""

    exit_code = 130

    def __init__(self, message: str = "interrupted") -> None:
        super().__init__(message, code="interrupted", retryable=True)
