from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cpu_engines.paint_measurement import DashRecord, dash_phase

PERIOD_M, DASH_M = 12.0, 3.0


def record(drift_m: float = 0.0, noise_m: float = 0.0, misfits: int = 0, frames: int = 100) -> DashRecord:
    """Edges of dashes that begin at 5.5 m, seen 4 to 25 m ahead at 10 m/s and 8 Hz; the phase drifts evenly."""
    rng = np.random.default_rng(1)
    rows = []
    for k in range(frames):
        here = 1.25 * k
        for n in range(-1, 15):
            for starts, at in ((True, 5.5 + n * PERIOD_M), (False, 5.5 + n * PERIOD_M + DASH_M)):
                if 4 < at - here < 25:
                    moved = at + drift_m * k / 100 + rng.normal(0, noise_m)
                    rows.append((k, moved, at - here, starts))
    rows += [(10 * i % frames, 5.5 + 6.0 + 0.3 * i, 12.0, True) for i in range(misfits)]
    frame, arc, ahead, begins = (np.array(column) for column in zip(*rows, strict=True))
    return DashRecord(frame, arc, ahead, begins)


def test_dashes_that_stand_still_show_their_length_and_nothing_else():
    phase = dash_phase(record(), PERIOD_M)
    assert phase is not None
    assert np.abs(phase.residual_m).max() < 1e-9
    assert phase.length_m == pytest.approx(DASH_M)
    assert phase.drift_m == pytest.approx(0.0, abs=1e-9)
    assert phase.spread_m == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("drift_m", [0.3, -0.8])
def test_a_slow_drift_is_measured_with_its_sign_through_noise_and_misreadings(drift_m: float):
    phase = dash_phase(record(drift_m, noise_m=0.05, misfits=12), PERIOD_M)
    assert phase is not None
    assert phase.drift_m == pytest.approx(drift_m, abs=0.05)


def test_scatter_of_single_readings_is_no_drift_but_shows_as_spread():
    phase = dash_phase(record(noise_m=0.1), PERIOD_M)
    assert phase is not None
    assert abs(phase.drift_m) < 0.05
    assert phase.spread_m == pytest.approx(0.1, abs=0.02)


def test_a_short_look_says_nothing_of_drift():
    assert dash_phase(record(frames=20), PERIOD_M) is None
