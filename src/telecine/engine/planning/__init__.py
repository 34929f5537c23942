"""Pure: (MediaInfo, Profile) → Plan. Every decision about a source, each with its reason."""

from telecine.engine.planning.make import chosen_plan, encoded_instead, make_plan

__all__ = ["chosen_plan", "encoded_instead", "make_plan"]
