"""The files beside the source: given by name, and those that were planned with."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.sources import COMPLIANT

from telecine.engine.errors import InputRefused, MediaError, UsageError
from telecine.engine.inputs import SAMPLE_BYTES, fingerprint_of, planned_inputs, readable
from telecine.engine.media import ExtraInput
from telecine.engine.plan import Plan, Step, plan_from_json
from telecine.engine.planning import encoded_instead, make_plan
from telecine.engine.profile import make_profile

READS = Step("encode-0000", "encode", inputs=("watermark",))


def planned(path: Path) -> Plan:
    extra = ExtraInput("watermark", "picture", fingerprint_of(path))
    return make_plan(COMPLIANT, make_profile(), inputs=(extra,))


@pytest.fixture
def logo(tmp_path: Path) -> Path:
    path = tmp_path / "logo.png"
    path.write_bytes(b"a picture")
    return path


def test_a_step_gets_the_files_that_it_reads_and_no_other(tmp_path: Path, logo: Path) -> None:
    given = {"watermark": logo, "subtitles-en": tmp_path / "not-there.srt"}
    plan = planned(logo)
    assert planned_inputs(plan, READS, given) == {"watermark": logo}
    assert planned_inputs(plan, replace(READS, inputs=()), {}) == {}


def test_links_are_followed(tmp_path: Path, logo: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(logo)
    assert planned_inputs(planned(logo), READS, {"watermark": link}) == {"watermark": logo}


def test_a_file_that_was_not_given_is_named(logo: Path) -> None:
    with pytest.raises(UsageError, match="watermark") as raised:
        planned_inputs(planned(logo), READS, {"subtitles-en": logo})
    assert raised.value.code == "input_missing"


def test_another_file_than_the_planned_one_is_refused(logo: Path) -> None:
    plan = planned(logo)
    logo.write_bytes(b"b picture")
    with pytest.raises(InputRefused) as raised:
        planned_inputs(plan, READS, {"watermark": logo})
    assert raised.value.code == "input_changed"


def test_a_name_that_the_plan_does_not_have(logo: Path) -> None:
    with pytest.raises(UsageError) as raised:
        planned_inputs(planned(logo), replace(READS, inputs=("other",)), {"other": logo})
    assert raised.value.code == "input_unknown"


def test_the_files_beside_it_travel_with_the_plan_and_are_part_of_its_name(logo: Path) -> None:
    plan = planned(logo)
    assert plan_from_json(plan.to_json()) == plan
    assert plan.id != make_plan(COMPLIANT, make_profile()).id
    instead = encoded_instead(plan)
    assert instead is not None
    assert instead.inputs == plan.inputs


def test_a_fingerprint_is_of_both_ends_and_the_size(tmp_path: Path) -> None:
    path = tmp_path / "long"
    head, tail = b"h" * SAMPLE_BYTES, b"t" * SAMPLE_BYTES
    path.write_bytes(head + b"middle" + tail)
    size = 2 * SAMPLE_BYTES + 6
    wanted = hashlib.sha256(head + tail + str(size).encode()).hexdigest()
    assert fingerprint_of(path).sample_sha256 == wanted
    assert fingerprint_of(path).size_bytes == size


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.mkdir(), "source_missing"),
        (lambda path: path.touch(), "empty_file"),
        (lambda path: path.symlink_to(path), "source_missing"),
        (lambda path: None, "source_missing"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, make, code: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "it")
    with pytest.raises(MediaError) as raised:
        readable(tmp_path / "it")
    assert raised.value.code == code
