"""Pure: (MediaInfo, Profile) → Plan. Every decision about a source, each with its reason."""

from telecine.engine.planning.make import encoded_instead, make_plan

__all__ = ["encoded_instead", "make_plan"]
