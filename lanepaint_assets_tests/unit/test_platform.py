"""The object that asset code is given: engines are built when they are first needed, and values are made once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.platform import Memory, Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.artifacts import ArtifactStore


def test_memory_makes_a_value_once() -> None:
    memory, made = Memory(slots=2), []
    for _ in range(3):
        assert memory.get(("a",), lambda: made.append(1) or "value") == "value"
    assert len(made) == 1


def test_memory_forgets_the_least_recently_used_value_of_a_kind() -> None:
    memory, made = Memory(slots=2), []

    def ask(kind: str, name: str) -> None:
        memory.get((kind, name), lambda: made.append(name))

    for name in ("a", "b", "a", "c", "a", "b"):
        ask("frames", name)
        ask("scene", name.upper())
    assert [name for name in made if name.islower()] == ["a", "b", "c", "b"]
    assert [name for name in made if name.isupper()] == ["A", "B", "C", "B"]


def test_memory_asked_by_two_threads_at_once_makes_the_value_once() -> None:
    memory, made, started, release = Memory(), [], threading.Event(), threading.Event()

    def slow() -> str:
        made.append(threading.get_ident())
        started.set()
        assert release.wait(10)
        return "value"

    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(memory.get(("k",), slow))) for _ in range(2)]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    release.set()
    for thread in threads:
        thread.join(10)
    assert answers == ["value", "value"]
    assert len(made) == 1


def test_different_values_are_made_at_the_same_time() -> None:
    memory, meeting = Memory(), threading.Barrier(2, timeout=10)
    threads = [threading.Thread(target=memory.get, args=((key,), meeting.wait)) for key in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert not meeting.broken


def test_a_value_that_could_not_be_made_is_tried_again() -> None:
    memory = Memory()

    def broken() -> str:
        raise OSError("no such clip")

    with pytest.raises(OSError, match="no such clip"):
        memory.get(("a",), broken)
    assert memory.get(("a",), lambda: "made") == "made"


def test_memory_may_be_asked_while_it_makes_another_value() -> None:
    memory = Memory()
    assert memory.get(("scene",), lambda: memory.get(("frames",), lambda: "frames") + " in a scene") == (
        "frames in a scene"
    )


def test_nothing_is_opened_or_built_before_it_is_needed(tmp_path: Path) -> None:
    platform = Platform(Settings(root=str(tmp_path / "root"), source=str(tmp_path / "no_source")))
    assert platform.entry("driver").name == "lane_follow"
    assert not (tmp_path / "root").exists()


def test_an_engine_is_built_once_and_one_painter_serves_both_roles(tmp_path: Path) -> None:
    platform = Platform(Settings(root=str(tmp_path)))
    assert platform.inspector is platform.inspector
    assert platform.first_frame_painter is platform.video_painter


def test_given_engines_and_store_are_used(tmp_path: Path) -> None:
    driver, store = object(), ArtifactStore("memory://given")
    platform = Platform(Settings(root=str(tmp_path)), store=store, driver=driver)
    assert platform.driver is driver
    assert platform.store is store


def test_a_given_painter_of_first_frames_does_not_paint_videos_too(tmp_path: Path) -> None:
    given = object()
    platform = Platform(Settings(root=str(tmp_path)), first_frame_painter=given)
    assert platform.video_painter is not given


def test_a_source_is_opened_once_an_address(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(b"x")
    platform = Platform(Settings(root=str(tmp_path / "root"), source=str(tmp_path / "one")))
    assert platform.source() is platform.source(str(tmp_path / "one"))
    assert platform.source() is not platform.source(str(tmp_path / "two"))


def test_a_relative_source_is_kept_as_an_absolute_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "clip.mp4").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert Platform(Settings(root="root", source="clips")).source().address == str(tmp_path / "clips")


def test_engines_read_a_mounted_checkpoint_which_is_observed_in_the_root_still(tmp_path: Path) -> None:
    mounted = Platform(Settings(root=str(tmp_path / "root"), checkpoints_mount=str(tmp_path / "mount")))
    plain = Platform(Settings(root=str(tmp_path / "root")))

    assert mounted.mounted_checkpoint("sam2_checkpoint") == UPath(tmp_path / "mount" / "sam2")
    assert mounted.checkpoint_folder("sam2_checkpoint") == plain.checkpoint_folder("sam2_checkpoint")
    assert plain.mounted_checkpoint("sam2_checkpoint") == plain.checkpoint_folder("sam2_checkpoint")


def test_a_mounted_checkpoint_gives_the_fingerprints_of_the_one_in_the_root(tmp_path: Path) -> None:
    digests = []
    for place, settings in (
        (tmp_path / "root" / "checkpoints", Settings(root=str(tmp_path / "root"), segmenter="sam2")),
        (
            tmp_path / "mount",
            Settings(root="memory://none", segmenter="sam2", checkpoints_mount=str(tmp_path / "mount")),
        ),
    ):
        (place / "sam2").mkdir(parents=True)
        (place / "sam2" / "sam2.1_hiera_large.pt").write_bytes(b"weights")
        digests.append(Platform(settings).checkpoint_digests("segmenter"))

    assert digests[0] == digests[1]


def test_painters_that_hold_nothing_and_those_that_were_never_built_need_no_release() -> None:
    class Holding:
        released = 0

        def release(self) -> None:
            self.released += 1

    painter = Holding()
    Platform(Settings(), first_frame_painter=painter, video_painter=object()).release_painters()
    assert painter.released == 1
    never_built = Platform(Settings())
    never_built.release_painters()
    assert not never_built._engines
