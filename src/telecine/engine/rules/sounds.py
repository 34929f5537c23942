"""Rules on sound: every track is there, in every group, and said to be what it is."""

from __future__ import annotations

from collections.abc import Sequence

from telecine.engine.formats.mpd import AdaptationSet
from telecine.engine.formats.playlist import Rendition
from telecine.engine.loudness import on_target
from telecine.engine.rules.found import Found
from telecine.engine.rules.table import Problems, rule, streams

DESCRIBES = "public.accessibility.describes-video"


def _members(found: Found) -> dict[str, list[Rendition]]:
    """The renditions of sound by their groups."""
    groups: dict[str, list[Rendition]] = {}
    for item in found.master.renditions if found.master is not None else ():
        if item.type == "AUDIO":
            groups.setdefault(item.group_id, []).append(item)
    return groups


@rule("audio-group", "RFC 8216 4.3.4.1, Apple 2.3, 9.5")
def _audio_group(found: Found) -> tuple[Problems, str]:
    """Every video variant of a source with sound has an audio group with one DEFAULT rendition and
    URIs, CHANNELS is what the init segment says, and one group is all stereo."""
    if found.master is None:
        return [], "no multivariant playlist"
    problems = []
    groups = _members(found)
    sound = found.plan.sound if found.plan is not None else None
    for variant in found.master.variants:
        group = groups.get(variant.audio or "", [])
        if variant.resolution is not None and (groups or sound is not None) and not group:
            problems.append(f"{variant.uri} has no audio group")
        if group and sum(item.default for item in group) != 1:
            problems.append(f"group {variant.audio} has not one DEFAULT")
    for item in (item for group in groups.values() for item in group):
        stream = found.stream(item.uri) if item.uri is not None else None
        if item.uri is None:
            problems.append(f"{item.name} has no URI")
        elif stream is not None and item.channels != str(stream.track.channels):
            problems.append(f"{item.uri}: CHANNELS {item.channels}, not {stream.track.channels}")
    if groups and not any(all(item.channels == "2" for item in g) for g in groups.values()):
        problems.append("no group is all stereo")
    return problems, f"{sum(map(len, groups.values()))} rendition(s)"


def _with_members(found: Found) -> bool:
    return bool(_members(found))


@rule("audio-groups-alike", "RFC 8216 4.3.4.1.1, Apple 9.6, 9.7", _with_members)
def _groups_alike(found: Found) -> tuple[Problems, str]:
    """Groups of sound have the same members, with the same attributes but for URI and CHANNELS, and
    every picture is a variant with each of them."""
    groups = _members(found)
    (first, wanted), *others = groups.items()
    problems = [
        f"group {name} has other members than {first}"
        for name, members in others
        if [*map(_attributes, members)] != [*map(_attributes, wanted)]
    ]
    pictures: dict[str, set[str | None]] = {}
    for variant in found.master.variants if found.master is not None else ():
        pictures.setdefault(variant.uri, set()).add(variant.audio)
    if any(v.resolution is not None for v in (found.master.variants if found.master else ())):
        problems += [
            f"{uri} is not with every group"
            for uri, named in pictures.items()
            if named != groups.keys()
        ]
    return problems, ", ".join(groups)


def _attributes(item: Rendition) -> tuple[object, ...]:
    return (item.name, item.language, item.default, item.autoselect, item.characteristics)


def _tracks_known(found: Found) -> bool:
    return streams(found) and found.plan is not None and bool(_members(found))


@rule("audio-tracks", "plan", _tracks_known)
def _audio_tracks(found: Found) -> tuple[Problems, str]:
    """Every group has every track of the source once, by its NAME, with the source's DEFAULT and
    CHARACTERISTICS."""
    assert found.plan is not None
    stereo = [s for s in found.plan.sounds if s.listed and s.group == "stereo"]
    wanted = [(s.title, s.default, (DESCRIBES,) * (s.kind == "description")) for s in stereo]
    problems = []
    for group, members in _members(found).items():
        said = [(item.name, item.default, item.characteristics) for item in members]
        problems += [f"group {group} has not {title!r} as the source has it"
                     for title, *facts in wanted if (title, *facts) not in said]  # fmt: skip
        if len(said) > len(wanted):
            problems.append(f"group {group} has {len(said)} members, the source {len(wanted)}")
    return problems, ", ".join(title for title, _, _ in wanted)


def _language_known(found: Found) -> bool:
    sounds = found.plan.sounds if found.plan is not None else ()
    return bool(_members(found)) and any(sound.language is not None for sound in sounds)


@rule("language", "Apple 8.9", _language_known)
def _language(found: Found) -> tuple[Problems, str]:
    """LANGUAGE of each sound is the source's, where that has one, as a tag."""
    problems = []
    said = []
    for item in (item for group in _members(found).values() for item in group):
        voice = found.voice((item.uri or "").rpartition("/")[0])
        wanted = voice.language if voice is not None else None
        said.append(str(item.language))
        if voice is not None and item.language != wanted:
            problems.append(f"{item.uri}: LANGUAGE {item.language}, the source has {wanted}")
    return problems, ", ".join(dict.fromkeys(said))


@rule("mpd-sounds", "DASH 5.8.5.5, DASH-IF IOP", _with_members)
def _mpd_sounds(found: Found) -> tuple[Problems, str]:
    """The MPD has an AdaptationSet of its own for each rendition of sound, which says of it what
    HLS says: its name where there are several, whether it plays by default (role main), whether it
    describes the picture."""
    sets: dict[str, AdaptationSet] = {}
    for adaptation in found.manifest.adaptation_sets if found.manifest is not None else ():
        if adaptation.content_type == "audio":
            for voice in adaptation.representations:
                sets[voice.template.initialization.rpartition("/")[0]] = adaptation
    members = {
        (item.uri or "").rpartition("/")[0]: item
        for group in _members(found).values()
        for item in group
    }
    problems = []
    for home, item in members.items():
        if home not in sets:
            continue  # a matter of mpd-segments
        adaptation = sets[home]
        if len(adaptation.representations) > 1:
            problems.append(f"{home} is not in an AdaptationSet of its own")
        if len(members) > 1 and adaptation.label != item.name:
            problems.append(f"{home}: Label {adaptation.label!r}, NAME {item.name!r}")
        described = DESCRIBES in item.characteristics
        if (adaptation.accessibility == "description") != described:
            problems.append(f"{home}: Accessibility {adaptation.accessibility}")
        if adaptation.role not in _roles(item, described=described):
            problems.append(f"{home}: Role {adaptation.role}, DEFAULT {item.default}")
    return problems, ", ".join(sets[home].role for home in members if home in sets)


def _roles(item: Rendition, *, described: bool) -> Sequence[str]:
    if described:
        return ("description",)
    return ("main", "commentary") if item.default else ("alternate", "commentary")


def _heard(found: Found) -> bool:
    return bool(found.levels)


@rule("loudness", "EBU R 128", _heard)
def _loudness(found: Found) -> tuple[Problems, str]:
    """The loudness of every rendition was measured; where one was asked for it is that within
    0.5 LU, and the true peak is at most -1 dBTP, unless a warning says why not."""
    plan = found.plan
    levels = {level.name: level.loudness for level in found.levels}
    names = [sound.name for sound in plan.sounds] if plan is not None else []
    problems = [f"{name} was not measured" for name in names if name not in levels]
    target_lufs = plan.profile.loudness_lufs if plan is not None else None
    for name, heard in levels.items():
        warned = any(line.startswith(f"{name}: ") for line in found.told)
        if target_lufs is not None and not warned and not on_target(heard, target_lufs):
            problems.append(f"{name}: {heard}, wanted {target_lufs:g} LUFS")
    return problems, "; ".join(f"{name} {heard}" for name, heard in levels.items())
