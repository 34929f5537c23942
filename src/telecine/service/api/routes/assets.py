"""Routes of assets: list, search, read, edit, delete, the source, the public gallery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import Field

from telecine.engine.media import AudioStream, MediaInfo, VideoStream
from telecine.engine.serial import from_older
from telecine.service import assets, downloads, playback
from telecine.service.api.deps import AssetsRead, AssetsWrite, ServicesDep
from telecine.service.api.errors import responses
from telecine.service.api.routes.playback import viewer
from telecine.service.api.schemas import (
    NO_NUL,
    After,
    Answer,
    Asked,
    Limit,
    Page,
    make_page,
    rfc3339,
)
from telecine.service.db.assets import AssetRow
from telecine.service.domain import AssetKind, AssetState, Principal, Visibility
from telecine.service.services import Services

router = APIRouter(prefix="/v1", tags=["assets"])

AssetId = Annotated[str, Path(description="The asset's id.", max_length=26)]
Words = Annotated[
    str | None,
    Query(
        alias="q",
        max_length=200,
        pattern=NO_NUL,
        description="Stands in title or description, in capitals or not; of my own assets also in "
        "the file name.",
    ),
]


# --- what is asked and answered -------------------------------------------------------------------


class AssetChanges(Asked):
    """What is to be different; what is left out stays."""

    title: str | None = Field(None, min_length=1, max_length=300, pattern=NO_NUL)
    description: str | None = Field(None, max_length=10_000, pattern=NO_NUL)
    visibility: Visibility | None = Field(
        None,
        description="`private`: you alone; `unlisted`: whoever has its id; `public`: also in the "
        "gallery, once it is ready.",
    )


class AssetSeen(Answer):
    """What anyone may see of a public or unlisted asset."""

    id: str = Field(examples=["01KAJ9XG5Y0Q4R8S2T6V0W3X7Z"])
    state: AssetState
    visibility: Visibility
    kind: AssetKind = Field(description="What its outputs are made of.")
    title: str = Field(examples=["Big Buck Bunny"])
    description: str = Field(examples=["A film by the Blender Foundation."])
    duration_s: float | None = Field(description="Null of a still picture.", examples=[596.5])
    poster_url: str | None = Field(description="A private asset's expires.", examples=[None])
    created_at: str = Field(examples=["2026-11-21T10:23:45.678Z"])


class AssetInList(AssetSeen):
    """An asset of one's own."""

    filename: str = Field(examples=["big_buck_bunny.mp4"])
    content_type: str = Field(examples=["video/mp4"])
    source_size_bytes: int = Field(examples=[107_374_182])
    source_sha256: str | None = Field(description="Null until it is known.", examples=[None])
    source_kept: bool = Field(description="Whether the source is still there.")
    summary: list[str] = Field(description="What it is, in plain words.")
    job_id: str | None = Field(description="The job whose output plays.", examples=[None])
    uploaded_at: str = Field(examples=["2026-11-21T10:23:44.000Z"])
    time_to_first_play_s: float | None = Field(
        description="From the end of its upload until its first seconds could be played.",
        examples=[1.4],
    )
    updated_at: str = Field(examples=["2026-11-21T10:23:45.678Z"])


class VideoShown(Answer):
    """A stream of pictures in the source."""

    codec: str = Field(examples=["h264"])
    codec_profile: str | None = Field(examples=["High"])
    width: int = Field(description="As stored, before rotation.", examples=[1920])
    height: int = Field(examples=[1080])
    pixel_aspect: str = Field(examples=["1/1"])
    rotation: int = Field(description="Degrees clockwise that make it upright.", examples=[0])
    frame_rate: float | None = Field(examples=[23.976])
    variable_rate: bool
    bit_depth: int = Field(examples=[8])
    hdr: bool
    interlaced: bool
    bitrate_bps: int | None = Field(examples=[4_000_000])
    language: str | None = Field(examples=[None])


class AudioShown(Answer):
    """A stream of sound in the source."""

    codec: str = Field(examples=["aac"])
    channels: int = Field(examples=[2])
    channel_layout: str = Field(examples=["stereo"])
    sample_rate: int = Field(examples=[48_000])
    bitrate_bps: int | None = Field(examples=[128_000])
    language: str | None = Field(examples=["eng"])


class ChapterShown(Answer):
    """A stretch of the film with a name, as the file says it."""

    start_s: float = Field(examples=[0.0])
    end_s: float = Field(examples=[93.5])
    title: str | None = Field(examples=["Opening"])


class MediaShown(Answer):
    """What the probe found."""

    container: str = Field(examples=["mov,mp4,m4a,3gp,3g2,mj2"])
    duration_s: float = Field(examples=[596.5])
    chapters: list[ChapterShown]
    video: list[VideoShown]
    audio: list[AudioShown]
    warnings: list[str]


class ImageShown(Answer):
    """What was found in a picture. Sizes are of the upright picture."""

    format: str = Field(examples=["jpeg"])
    width: int = Field(examples=[4032])
    height: int = Field(examples=[3024])
    frames: int = Field(examples=[1])
    duration_s: float | None = Field(description="Of an animation, once through.", examples=[None])
    alpha: bool = Field(description="Whether it has transparency.")
    depth: int = Field(description="Bits a channel.", examples=[8])
    color: str = Field(examples=["sRGB"])
    icc: str | None = Field(description="The colour profile's own words.", examples=["Display P3"])
    orientation: int = Field(description="Of EXIF, 1 to 8, as the file says.", examples=[6])
    exif: dict[str, str] = Field(
        description="As EXIF calls it, without the place.", examples=[{"Model": "A camera"}]
    )
    gps: bool = Field(description="Whether the file says where it was taken.")
    dominant_colors: list[str] = Field(examples=[["#2b4c6f", "#d8c9a4"]])
    thumbhash: str = Field(description="A placeholder of some 30 bytes, in base64.")
    blurhash: str = Field(examples=["LEHV6nWB2yk8pyo0adR*.7kCMdnj"])
    warnings: list[str]


class AssetShown(AssetInList):
    """An asset of one's own, with what was found in it. An animation has both `media`, since films
    can be made of it, and `image`."""

    media: MediaShown | None
    image: ImageShown | None


class SourceShown(Answer):
    """A link to the source: signed, so that whoever has it may read it until it expires."""

    url: str
    expires_at: str = Field(examples=["2026-11-21T11:23:45.000Z"])
    size_bytes: int = Field(examples=[107_374_182])
    sha256: str | None = Field(examples=[None])
    content_type: str = Field(examples=["video/mp4"])


def _seen(services: Services, row: AssetRow, now_s: float) -> dict[str, Any]:
    poster = None
    if row.poster_key is not None:
        poster = services.settings.base_url + playback.poster_path(
            services, row.id, row.visibility, row.poster_key, now_s
        )
    return {
        "id": row.id,
        "state": row.state,
        "visibility": row.visibility,
        "kind": row.kind,
        "title": row.title,
        "description": row.description,
        "duration_s": row.duration_s,
        "poster_url": poster,
        "created_at": rfc3339(row.created_at),
    }


def _own(services: Services, row: AssetRow, now_s: float) -> dict[str, Any]:
    return {
        **_seen(services, row, now_s),
        "filename": row.filename,
        "content_type": row.content_type,
        "source_size_bytes": row.source_size_bytes,
        "source_sha256": row.source_sha256,
        "source_kept": row.source_key is not None,
        "summary": row.summary or [],
        "job_id": row.job_id,
        "uploaded_at": rfc3339(row.uploaded_at),
        "time_to_first_play_s": row.time_to_first_play_s,
        "updated_at": rfc3339(row.updated_at),
    }


def show_media(plain: Mapping[str, Any]) -> MediaShown:
    """What the probe found, without the table of keyframes, which may be megabytes."""
    video = [{**stream, "index_table": None} for stream in plain["video"]]
    info = from_older(MediaInfo, {**plain, "video": video})
    return MediaShown(
        container=info.container,
        duration_s=round(float(info.duration_s), 3),
        chapters=[
            ChapterShown(
                start_s=round(float(chapter.start_s), 3),
                end_s=round(float(chapter.end_s), 3),
                title=chapter.title,
            )
            for chapter in info.chapters
        ],
        video=[_show_video(stream) for stream in info.video],
        audio=[_show_audio(stream) for stream in info.audio],
        warnings=list(info.warnings),
    )


def _show_video(stream: VideoStream) -> VideoShown:
    return VideoShown(
        codec=stream.codec,
        codec_profile=stream.codec_profile,
        width=stream.width,
        height=stream.height,
        pixel_aspect=f"{stream.sar.numerator}/{stream.sar.denominator}",
        rotation=stream.rotation,
        frame_rate=None if stream.rate is None else round(float(stream.rate), 3),
        variable_rate=stream.variable_rate,
        bit_depth=stream.bit_depth,
        hdr=stream.color.hdr,
        interlaced=stream.field_order in ("tff", "bff"),
        bitrate_bps=stream.bitrate_bps,
        language=stream.language,
    )


def _show_audio(stream: AudioStream) -> AudioShown:
    return AudioShown(
        codec=stream.codec,
        channels=stream.channels,
        channel_layout=stream.channel_layout,
        sample_rate=stream.sample_rate,
        bitrate_bps=stream.bitrate_bps,
        language=stream.language,
    )


# --- routes ---------------------------------------------------------------------------------------


@router.get("/gallery", operation_id="list_gallery", summary="List public assets")
def list_gallery(
    services: ServicesDep, words: Words = None, limit: Limit = 20, after: After = None
) -> Page[AssetSeen]:
    """What everyone may see: public assets that are ready, the newest first. For anybody."""
    found, now_s = assets.list_gallery(services, words=words, after=after, limit=limit + 1)
    return make_page(
        found, limit, lambda row: AssetSeen(**_seen(services, row, now_s)), lambda row: row.id
    )


@router.get("/assets", operation_id="list_assets", summary="List my assets")
def list_assets(
    who: AssetsRead,
    services: ServicesDep,
    words: Words = None,
    state: AssetState | None = None,
    kind: AssetKind | None = None,
    visibility: Visibility | None = None,
    limit: Limit = 20,
    after: After = None,
) -> Page[AssetInList]:
    """The newest first."""
    found, now_s = assets.list_mine(
        services,
        who,
        words=words,
        state=state,
        kind=kind,
        visibility=visibility,
        after=after,
        limit=limit + 1,
    )
    return make_page(
        found, limit, lambda row: AssetInList(**_own(services, row, now_s)), lambda row: row.id
    )


@router.get(
    "/assets/{asset_id}",
    operation_id="get_asset",
    summary="Read an asset",
    responses=responses(401, asset_unknown=404, scope_missing=403),
)
def get_asset(
    asset_id: AssetId,
    services: ServicesDep,
    who: Annotated[Principal | None, Depends(viewer)],
) -> AssetShown | AssetSeen:
    """All of it for its owner; of a public or unlisted one anyone sees what a viewer needs."""
    row, found, now_s = assets.read(services, who, asset_id)
    if not assets.sees_all(who, row):
        return AssetSeen(**_seen(services, row, now_s))
    return _show(services, row, found, now_s)


@router.patch(
    "/assets/{asset_id}",
    operation_id="edit_asset",
    summary="Edit an asset",
    responses=responses(asset_unknown=404),
)
def edit_asset(
    asset_id: AssetId, changes: AssetChanges, who: AssetsWrite, services: ServicesDep
) -> AssetShown:
    """Title, description, visibility."""
    row, found, now_s = assets.edit(services, who, asset_id, changes.model_dump(exclude_none=True))
    return _show(services, row, found, now_s)


@router.delete(
    "/assets/{asset_id}",
    operation_id="delete_asset",
    summary="Delete an asset",
    status_code=204,
    responses=responses(asset_unknown=404),
)
def delete_asset(asset_id: AssetId, who: AssetsWrite, services: ServicesDep) -> Response:
    """With its source, its jobs and everything that they made. What runs for it is ended."""
    assets.delete(services, who, asset_id)
    return Response(status_code=204)


@router.get(
    "/assets/{asset_id}/source",
    operation_id="get_source",
    summary="Get a link to an asset's source",
    responses=responses(asset_unknown=404, source_gone=409),
)
def get_source(asset_id: AssetId, who: AssetsRead, services: ServicesDep) -> SourceShown:
    """Good for as long as it says, for whoever has it."""
    row, now_s = assets.source_of(services, who, asset_id)
    link = downloads.link_source(services, row, now_s)
    return SourceShown(
        url=link.url,
        expires_at=rfc3339(link.expires_at),
        size_bytes=row.source_size_bytes,
        sha256=row.source_sha256,
        content_type=row.content_type,
    )


def _show(
    services: Services, row: AssetRow, found: assets.Contents | None, now_s: float
) -> AssetShown:
    media, image = (None, None) if found is None else (found.media, found.image)
    return AssetShown(
        **_own(services, row, now_s),
        media=None if media is None else show_media(media),
        image=None if image is None else ImageShown.model_validate(image),
    )
