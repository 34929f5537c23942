"""Every table. Times are seconds since 1970 by the database's clock, in double precision; ids are
ULIDs; secrets are kept as SHA-256 of what was handed out.

`migrations/` makes them; a test holds the two against each other.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = sa.String(26)
Time = sa.Double
Digest = sa.String(64)
Word = sa.String(32)
Key = sa.String(300)  # a storage key


def _user() -> sa.Column[str]:
    return sa.Column("user_id", Id, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False)


# --- accounts ---------------------------------------------------------------------------------

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("email", sa.String(320), nullable=False, unique=True),  # normalised
    sa.Column("name", sa.String(200), nullable=False, server_default=""),
    sa.Column("password_hash", sa.String(300), nullable=False),
    sa.Column("role", Word, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("max_upload_bytes", sa.BigInteger),  # null: the setting
    sa.Column("max_running_jobs", sa.Integer),  # null: the setting
    sa.Column("created_at", Time, nullable=False),
)

# What a user's jobs do just now: read by every claim, so that none has to count jobs. `served_s` is
# the encoder time that the user had lately; it decays, and who had least is served first.
tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("user_id", Id, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("max_running_jobs", sa.Integer, nullable=False),
    sa.Column("queued_jobs", sa.Integer, nullable=False, server_default="0"),
    sa.Column("running_jobs", sa.Integer, nullable=False, server_default="0"),
    sa.Column("served_s", Time, nullable=False, server_default="0"),
    sa.Column("served_at", Time, nullable=False, server_default="0"),
    sa.Index("ix_tenants_queued", "queued_jobs"),
)

# First admin, invitations, forgotten passwords: each good once, until it expires.
one_time_tokens = sa.Table(
    "one_time_tokens",
    metadata,
    sa.Column("token_hash", Digest, primary_key=True),
    sa.Column("purpose", Word, nullable=False),  # first_admin, invite, password_reset
    sa.Column("user_id", Id, sa.ForeignKey("users.id", ondelete="CASCADE")),
    sa.Column("created_by", Id),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("used_at", Time),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _user(),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("last_used_at", Time, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("ended_at", Time),
    sa.Column("address", sa.String(64), nullable=False, server_default=""),
    sa.Column("user_agent", sa.String(300), nullable=False, server_default=""),
    sa.Index("ix_sessions_user_id", "user_id"),
)

refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("token_hash", Digest, primary_key=True),
    sa.Column("session_id", Id, sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("used_at", Time),  # a second use later than a race ends the session
    sa.Index("ix_refresh_tokens_session_id", "session_id"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _user(),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("prefix", sa.String(32), nullable=False, unique=True),  # shown; finds the row
    sa.Column("secret_hash", Digest, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time),
    sa.Column("revoked_at", Time),
    sa.Column("last_used_at", Time),
    sa.Index("ix_api_keys_user_id", "user_id"),
)

# Keys that sign URLs of pictures. No secret is kept: it is derived from the key's id.
image_keys = sa.Table(
    "image_keys",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _user(),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("revoked_at", Time),
    sa.Index("ix_image_keys_user_id", "user_id"),
)

# The first answer to a creating request, kept for 24 hours. `status` is null while it is in flight.
idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("user_id", Id, primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", Digest, nullable=False),  # method, path and body
    sa.Column("status", sa.Integer),
    sa.Column("headers", sa.JSON),
    sa.Column("body", sa.LargeBinary),
    sa.Column("created_at", Time, nullable=False),
    sa.Index("ix_idempotency_created_at", "created_at"),
)

# --- uploads and assets -----------------------------------------------------------------------

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _user(),
    sa.Column("state", Word, nullable=False),
    sa.Column("door", Word, nullable=False),  # tus, parts, post, form: the first that brought bytes
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(200), nullable=False),
    sa.Column("size_bytes", sa.BigInteger),  # null: the client has not said yet (tus, forms)
    sa.Column("offset_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("part_size_bytes", sa.BigInteger),
    sa.Column("max_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", Digest),  # what the client says that it is
    sa.Column("on_complete", sa.JSON),
    sa.Column("title", sa.String(300), nullable=False, server_default=""),
    sa.Column("tus_metadata", sa.Text),  # as the client wrote it: tus gives it back
    sa.Column("storage_key", Key, nullable=False),
    sa.Column("asset_id", Id),
    sa.Column("job_id", Id),
    sa.Column("error", sa.JSON),  # code and message of a completion that was refused
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Index("ix_uploads_user_id_id", "user_id", "id"),
    sa.Index("ix_uploads_state_expires_at", "state", "expires_at"),
)

upload_parts = sa.Table(
    "upload_parts",
    metadata,
    sa.Column("upload_id", Id, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("etag", sa.String(64), nullable=False),
)

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _user(),
    sa.Column("state", Word, nullable=False),
    sa.Column("visibility", Word, nullable=False),
    sa.Column("kind", Word, nullable=False, server_default="video"),  # video, audio, image
    sa.Column("title", sa.String(300), nullable=False),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(200), nullable=False),
    sa.Column("source_key", Key),  # null: the source was deleted when its job was done
    sa.Column("source_size_bytes", sa.BigInteger, nullable=False),
    sa.Column("source_sha256", Digest),  # a digest never delays playing: null until it is known
    sa.Column("summary", sa.JSON),  # the same in plain words
    sa.Column("image", sa.JSON),  # the engine's ImageInfo; an animation may have `media` as well
    sa.Column("duration_s", Time),
    sa.Column("job_id", Id),  # the job whose output plays
    sa.Column("poster_key", Key),
    sa.Column("uploaded_at", Time, nullable=False),  # the moment at which its upload was complete
    sa.Column("time_to_first_play_s", Time),  # from that moment
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    # Last, since it may be megabytes: SQLite walks through it to reach what stands behind it.
    sa.Column("media", sa.JSON),  # the engine's MediaInfo as `engine.serial` writes it
    sa.Index("ix_assets_user_id_id", "user_id", "id"),
    sa.Index("ix_assets_visibility_state_id", "visibility", "state", "id"),
)

# Pictures that were made for a URL, by what they were made of and how: a cache, each may be made
# again. The row is there before the object is, so that no object is ever without one.
derivatives = sa.Table(
    "derivatives",
    metadata,
    sa.Column("digest", Digest, primary_key=True),
    sa.Column("storage_key", Key, nullable=False),
    sa.Column("content_type", sa.String(100), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", Digest, nullable=False),  # of its bytes
    sa.Column("created_at", Time, nullable=False),
    sa.Column("used_at", Time, nullable=False),  # to the hour
    sa.Index("ix_derivatives_used_at", "used_at", "size_bytes"),
)

# What a URL asks of an asset (`request`: operations and format), and where it is. The pictures that
# were laid over it have a row each, too: whichever asset goes takes the derivative along.
derivative_uses = sa.Table(
    "derivative_uses",
    metadata,
    sa.Column("asset_id", Id, sa.ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("request", Digest, primary_key=True),
    sa.Column(
        "digest", Digest, sa.ForeignKey("derivatives.digest", ondelete="CASCADE"), nullable=False
    ),
    sa.Index("ix_derivative_uses_digest", "digest"),
)

# --- jobs ---------------------------------------------------------------------------------------

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _user(),
    sa.Column("asset_id", Id, sa.ForeignKey("assets.id", ondelete="CASCADE"), nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("preset", sa.String(64)),
    sa.Column("outputs", sa.JSON, nullable=False),  # the typed list that was asked for
    sa.Column("metadata", sa.JSON, nullable=False),  # the client's own words
    sa.Column("source_policy", Word, nullable=False),
    sa.Column("prefix", Key),  # where the committed outputs lie; null until they do
    sa.Column("pending_tasks", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_event", sa.Integer, nullable=False, server_default="0"),
    sa.Column("retries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("made_with", sa.String(200)),  # the version of the FFmpeg that makes its steps
    sa.Column("report", sa.JSON),
    sa.Column("error", sa.JSON),  # code and message
    sa.Column("warnings", sa.JSON),
    sa.Column("time_to_first_play_s", Time),  # since it was queued, the last time
    sa.Column("created_at", Time, nullable=False),
    sa.Column("started_at", Time),
    sa.Column("finished_at", Time),
    # Last, since they are long: SQLite walks through them to reach what stands behind them.
    sa.Column("plan_summary", sa.JSON),
    sa.Column("plan", sa.Text),  # the engine's, or of pictures, as JSON: the tasks are steps of it
    sa.Index("ix_jobs_user_id_id", "user_id", "id"),
    sa.Index("ix_jobs_user_id_state_id", "user_id", "state", "id"),
    sa.Index("ix_jobs_user_id_state_priority_id", "user_id", "state", "priority", "id"),
    sa.Index("ix_jobs_asset_id", "asset_id"),
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("job_id", Id, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("kind", Word, nullable=False),  # step, image, finish, digest, noop
    sa.Column("step_id", sa.String(64)),  # of the plan
    sa.Column("position", sa.Integer, nullable=False),  # order within the job
    sa.Column("opening", sa.Boolean, nullable=False, server_default=sa.false()),  # of first play
    sa.Column("priority", sa.Integer, nullable=False),  # its job's
    sa.Column("weight_s", Time, nullable=False),  # expected encoder seconds: progress counts them
    sa.Column("state", Word, nullable=False),
    sa.Column("waits_for", sa.Integer, nullable=False, server_default="0"),  # unfinished tasks
    sa.Column("not_before", Time, nullable=False, server_default="0"),
    sa.Column("epoch", sa.Integer, nullable=False, server_default="0"),  # +1 with each claim
    sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),  # leases that ran out
    sa.Column("errors", sa.Integer, nullable=False, server_default="0"),  # failures that were told
    sa.Column("lease_owner", sa.String(100)),
    sa.Column("lease_until", Time),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("prefix", Key),  # the committed attempt's
    sa.Column("progress", sa.JSON),
    sa.Column("result", sa.JSON),
    sa.Column("error", sa.JSON),
    sa.Column("started_at", Time),
    sa.Column("finished_at", Time),
    sa.Index("ix_tasks_job_id_position", "job_id", "position"),
    # What is claimed from: ready tasks of running jobs are few, whatever the queue. A claim reads
    # nothing but this index until it has chosen.
    sa.Index(
        "ix_tasks_claim",
        *("state", "priority", "opening", "user_id", "job_id", "position", "not_before"),
    ),
    sa.Index("ix_tasks_state_lease_until", "state", "lease_until"),
)

task_needs = sa.Table(
    "task_needs",
    metadata,
    sa.Column("task_id", Id, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("needs_id", Id, primary_key=True),
    sa.Index("ix_task_needs_needs_id", "needs_id"),
)

# Every claim: its prefix is recorded here before its first byte is written, so that the collector
# finds what a killed worker left.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("task_id", Id, primary_key=True),  # no foreign key: it outlives what is deleted
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("job_id", Id, nullable=False),
    sa.Column("prefix", Key, nullable=False),
    sa.Column("worker", sa.String(100), nullable=False),
    sa.Column("claimed_at", Time, nullable=False),
    sa.Column("ended_at", Time),
    sa.Column("outcome", Word),  # succeeded, failed, lost, cancelled, released
    sa.Column("unneeded_at", Time),  # null: it is written, followed, or kept
    sa.Column("collected_at", Time),
    sa.Index("ix_attempts_collected_at_unneeded_at", "collected_at", "unneeded_at"),
    sa.Index("ix_attempts_job_id", "job_id"),
)

INIT = -1  # the number of an init segment's row

# The asset's timeline while a job runs: finished, immutable segments of running and succeeded
# tasks. A row stays true when its attempt is lost, and is gone when the job's files stand.
segments = sa.Table(
    "segments",
    metadata,
    sa.Column("job_id", Id, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("rendition", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("storage_key", Key, nullable=False),
    sa.Column("task_id", Id, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),  # the engine's Segment; of an init its bytes' SHA
)

outputs = sa.Table(
    "outputs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("job_id", Id, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("asset_id", Id, nullable=False),
    sa.Column("kind", Word, nullable=False),  # hls, mp4, poster, image, report …
    sa.Column("path", sa.String(200), nullable=False),  # inside the job's prefix
    sa.Column("content_type", sa.String(100), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", Digest, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),  # measured: rates, sizes, duration
    sa.Index("ix_outputs_job_id", "job_id"),
)

# What a job tells its listeners, numbered without holes: a client that comes back names the last
# one that it heard.
events = sa.Table(
    "events",
    metadata,
    sa.Column("job_id", Id, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("type", Word, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("at", Time, nullable=False),
)

# Prefixes and keys whose rows are gone: the collector deletes their bytes, then the row.
garbage = sa.Table(
    "garbage",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("prefix", Key, nullable=False),
    sa.Column("not_before", Time, nullable=False),
)
