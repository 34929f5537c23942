"""E-mail addresses as names of accounts: one spelling each. No mail is sent."""

from __future__ import annotations

import re
import unicodedata

from telecine.service.domain import Invalid

MAX_CHARACTERS = 254  # RFC 5321's path, without its brackets

_LOCAL = re.compile(r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]{1,64}")
_LABEL = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?")


def normalised_email(text: str) -> str:
    """The spelling that an account is found by: compatibility forms, space around it and capitals
    make no other address."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).strip().lower())


def checked_email(text: str) -> str:
    """`normalised_email` of what may be an address. Raises `Invalid` (`email_invalid`)."""
    email = normalised_email(text)
    local, _, domain = email.rpartition("@")
    labels = domain.split(".")
    good = (
        len(email) <= MAX_CHARACTERS
        and email.isprintable()
        and _LOCAL.fullmatch(local) is not None
        and not (local.startswith(".") or local.endswith(".") or ".." in local)
        and (len(labels) > 1 or domain == "localhost")
        and all(_LABEL.fullmatch(label) for label in labels)
    )
    if not good:
        raise Invalid("this is no e-mail address", code="email_invalid")
    return email
