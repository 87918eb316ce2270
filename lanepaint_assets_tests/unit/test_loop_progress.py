"""Long loops inside a step tell how far they are, now and then, to those who listen."""

from __future__ import annotations

from lanepaint_assets.loop_progress import TELL_EVERY_S, LoopProgress, loops_told_to

Told = tuple[str, int, int, float]


def told_of(*, seconds_a_step: float, steps: int, begun: int = 0) -> list[Told]:
    now, heard = 100.0, list[Told]()
    with loops_told_to(lambda *told: heard.append(told)):
        progress = LoopProgress("window 1 of 3", steps, begun, clock=lambda: now)
        for done in range(begun + 1, steps + 1):
            now += seconds_a_step
            progress.done(done)
    return heard


def test_a_slow_loop_is_told_every_half_minute_with_the_time_left() -> None:
    assert TELL_EVERY_S == 30.0
    assert told_of(seconds_a_step=10.0, steps=8) == [
        ("window 1 of 3", 3, 8, 50.0),
        ("window 1 of 3", 6, 8, 20.0),
    ]


def test_a_loop_that_ends_within_half_a_minute_is_not_told() -> None:
    assert told_of(seconds_a_step=0.5, steps=50) == []


def test_the_pace_of_a_loop_that_goes_on_is_that_of_its_own_steps() -> None:
    assert told_of(seconds_a_step=15.0, steps=104, begun=100) == [("window 1 of 3", 102, 104, 30.0)]


def test_nobody_is_told_after_the_context() -> None:
    heard: list[Told] = []
    with loops_told_to(lambda *told: heard.append(told)):
        progress = LoopProgress("loop", 10, clock=iter(range(0, 1000, 40)).__next__)
        progress.done(1)
    progress.done(2)
    assert [done for _, done, _, _ in heard] == [1]
