"""Loudness: what FFmpeg's filter says, and the gains that follow from it by arithmetic."""

from __future__ import annotations

import pytest

from telecine.engine import loudness
from telecine.engine.errors import StepFailed, UsageError
from telecine.engine.loudness import AS_IT_IS, Gain, Loudness, Summaries
from telecine.engine.profile import make_profile, parse_loudness

# As FFmpeg 9 writes it at level info, another filter's words between.
SAID = """\
Stream mapping:
[ebur128@m1 @ 0x7f8bf0002e00] Summary:

  Integrated loudness:
    I:         -21.6 LUFS
    Threshold: -35.0 LUFS

  Loudness range:
    LRA:        17.7 LU
    Threshold: -44.6 LUFS
    LRA low:   -38.4 LUFS
    LRA high:  -20.7 LUFS

  True peak:
    Peak:       -0.8 dBFS
[aac @ 0x55de91c0d100] Qavg: 413.209
size=N/A time=00:00:12 [ebur128@m0 @ 0x7f8bf0002900] Summary:

  Integrated loudness:
    I:         -70.0 LUFS
    Threshold:   0.0 LUFS

  Loudness range:
    LRA:         0.0 LU
    Threshold:   0.0 LUFS
    LRA low:     0.0 LUFS
    LRA high:    0.0 LUFS

  True peak:
    Peak:       -inf dBFS
"""


def listened(text: str) -> Summaries:
    summaries = Summaries()
    for line in text.splitlines():
        summaries.take(line)
    return summaries


def test_what_the_filter_says_is_read_by_its_number() -> None:
    silence, film = listened(SAID).found(2)
    assert film == Loudness(-21.6, 17.7, -0.8)
    assert silence == Loudness(None, 0.0, None)
    assert (str(film), str(silence)) == ("-21.6 LUFS, peak -0.8 dBTP", "silence")
    assert str(Loudness(-20.0, 0.0, None)) == "-20.0 LUFS"


@pytest.mark.parametrize("text", ["", SAID.replace("    Peak:       -0.8 dBFS\n", "")])
def test_a_sound_that_was_not_measured_is_a_failure(text: str) -> None:
    with pytest.raises(StepFailed) as raised:
        listened(text).found(2)
    assert raised.value.code == "not_measured"


@pytest.mark.parametrize(
    ("measured", "gain"),
    [
        # Down to the target: nothing comes near to the bound of -1 dBTP.
        (Loudness(-10.0, 5.0, -0.5), Gain(-6.0)),
        # Up by 7: the peak would be at -5, three below and one.
        (Loudness(-23.0, 5.0, -12.0), Gain(7.0)),
        (Loudness(-23.0, 5.0, -11.0), Gain(7.0)),
        (Loudness(-23.0, 5.0, -10.9), Gain(7.0, -1.5)),
        (Loudness(-23.0, 5.0, -0.1), Gain(7.0, -1.5)),
        (Loudness(-50.0, 5.0, -40.0), Gain(24.0)),  # too quiet: raised no further
        (Loudness(None, 0.0, None), AS_IT_IS),
    ],
)
def test_the_first_gain(measured: Loudness, gain: Gain) -> None:
    assert loudness.first_gain(measured, -16.0) == gain


@pytest.mark.parametrize(
    ("heard", "gain"),
    [
        (Loudness(-16.1, 5.0, -1.1), Gain(7.0, -1.5)),  # as it should be
        (Loudness(-16.8, 5.0, -1.4), Gain(7.8, -1.5)),  # the limiter took 0.8 away
        (Loudness(-15.5, 5.0, -1.4), Gain(6.5, -1.5)),
        # The encoder brought the peak to -0.4, which may be -0.3: 0.7 and 0.3 to spare.
        (Loudness(-16.0, 5.0, -0.4), Gain(7.0, -2.5)),
        (Loudness(-35.0, 5.0, -1.4), Gain(24.0, -1.5)),
        (Loudness(None, 0.0, None), Gain(7.0, -1.5)),
    ],
)
def test_a_better_gain_by_how_it_came_out(heard: Loudness, gain: Gain) -> None:
    assert loudness.next_gain(Gain(7.0, -1.5), heard, -16.0) == gain


@pytest.mark.parametrize(
    ("heard", "good"),
    [
        (Loudness(-15.5, 1.0, -1.0), True),
        (Loudness(-16.5, 1.0, -9.0), True),
        (Loudness(-15.4, 1.0, -3.0), False),
        (Loudness(-16.0, 1.0, -0.9), False),
        (Loudness(None, 0.0, None), False),
    ],
)
def test_what_is_on_target(heard: Loudness, good: bool) -> None:
    assert loudness.on_target(heard, -16.0) is good


def test_gains_travel_as_text() -> None:
    gains = {"aac": Gain(3.25, -1.5), "aac-2": AS_IT_IS}
    assert loudness.read_gains(loudness.write_gains(gains)) == gains


@pytest.mark.parametrize("text", ["", "[]", '{"aac": 3}', '{"aac": {"gain_db": "3"}}'])
def test_gains_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(StepFailed) as raised:
        loudness.read_gains(text)
    assert raised.value.code == "gains_unreadable"


@pytest.mark.parametrize(("text", "lufs"), [("-16", -16.0), ("-23.5", -23.5), ("-8", -8.0)])
def test_words_for_a_loudness(text: str, lufs: float) -> None:
    assert parse_loudness(text) == lufs
    assert make_profile(loudness_lufs=lufs).loudness_lufs == lufs


@pytest.mark.parametrize("text", ["16", "-7", "-41", "-16dB", "", "-1e1", "loud", "-16.123"])
def test_words_that_are_no_loudness(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_loudness(text)
    assert raised.value.code == "loudness_invalid"
