"""Loudness and true peak by the words of ITU-R BS.1770-4, in numpy: what FFmpeg's figures are held
against. `test_sounds` holds this program itself against EBU Tech 3341."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

RATE = 48_000
_BLOCK = RATE * 4 // 10  # of 400 ms,
_STEP = RATE // 10  # three quarters of it in the next one, too

# Annex 1, tables 1 and 2: a shelf for the head, a high pass.
_STAGES = (
    (
        (1.53512485958697, -2.69169618940638, 1.19839281085285),
        (1.0, -1.69065929318241, 0.73248077421585),
    ),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)


def decoded(ffmpeg: str, file: Path, channels: int) -> Samples:
    """The sound of a file at 48 kHz, one row a channel."""
    command = [ffmpeg, "-v", "error", "-i", str(file), "-map", "0:a:0", "-f", "f32le"]
    data = subprocess.check_output([*command, "-ar", str(RATE), "-"])
    return np.frombuffer(data, "<f4").reshape(-1, channels).T.astype(np.float64)


def _filtered(samples: Samples) -> Samples:
    """Both stages over every channel, by the frequency response of each: as long as the sound is
    padded, a recursive filter is a product there."""
    size = 1 << (samples.shape[1] + RATE).bit_length()
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    spectrum = np.fft.rfft(samples, size)
    for over, under in _STAGES:
        spectrum *= np.polyval(over[::-1], turn) / np.polyval(under[::-1], turn)
    return np.fft.irfft(spectrum, size)[:, : samples.shape[1]]


def integrated_lufs(samples: Samples) -> float:
    """Of mono, stereo, 5.0 (L R C Ls Rs) or 5.1 (L R C LFE Ls Rs), gated (annex 1, 5.1)."""
    weights = {
        1: [1.0],
        2: [1.0, 1.0],
        5: [1.0, 1.0, 1.0, 1.41, 1.41],
        6: [1.0, 1.0, 1.0, 0.0, 1.41, 1.41],
    }[len(samples)]
    squares = np.asarray(weights) @ _filtered(samples) ** 2
    sums = np.concatenate(([0.0], np.cumsum(squares)))
    starts = np.arange(0, len(squares) - _BLOCK + 1, _STEP)
    powers = (sums[starts + _BLOCK] - sums[starts]) / _BLOCK
    powers = powers[powers > 10 ** ((-70 + 0.691) / 10)]
    powers = powers[powers > powers.mean() / 10]  # 10 LU below what the first gate left
    return float(-0.691 + 10 * np.log10(powers.mean()))


def true_peak_dbtp(samples: Samples) -> float:
    """The largest value at four times the rate (annex 2), each channel band-limited as a whole."""
    peak = 0.0
    size = samples.shape[1]
    for channel in samples:
        spectrum = np.fft.rfft(channel)
        wide = np.zeros(2 * size + 1, complex)
        wide[: len(spectrum)] = spectrum
        peak = max(peak, float(np.abs(4 * np.fft.irfft(wide, 4 * size)).max()))
    return float(20 * np.log10(peak))


def dominant_hz(samples: Samples) -> float:
    """The frequency that is loudest in one channel."""
    window = np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(samples * window))
    return float(np.argmax(spectrum) * RATE / len(samples))
