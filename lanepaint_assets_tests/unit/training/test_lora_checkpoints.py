"""The last checkpoint of a training, and the wish to end one."""

from __future__ import annotations

from pathlib import Path

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS
from lanepaint_assets.training.lora_checkpoints import CheckpointShelf, StopRequest, checkpoints_under_way

STYLE = "single_white_solid"


def shelf(store: ArtifactStore, training: str = "a" * 64) -> CheckpointShelf:
    return CheckpointShelf(store, STYLE, training, "run")


def staged(folder: Path, text: str) -> Path:
    (folder / "pictures").mkdir(parents=True)
    (folder / "state").write_text(text)
    (folder / "pictures" / "a.png").write_text(text)
    return folder


def test_the_last_checkpoint_is_found_by_its_training_and_no_other(store: ArtifactStore, tmp_path: Path) -> None:
    with shelf(store).latest() as nothing:
        assert nothing is None
    shelf(store).publish(100, staged(tmp_path / "1", "first"))
    shelf(store).publish(200, staged(tmp_path / "2", "second"))
    with shelf(store).latest() as folder:
        assert folder is not None
        assert (folder / "state").read_text() == "second"
        assert (folder / "pictures" / "a.png").read_text() == "second"
    assert not folder.exists()
    assert shelf(store).latest_step() == 200
    assert shelf(store, "b" * 64).latest_step() == 0
    assert checkpoints_under_way(store, STYLE) == {"a" * 12: 200}


def test_only_the_last_checkpoint_takes_space_and_none_after_the_end(store: ArtifactStore, tmp_path: Path) -> None:
    def files() -> list[str]:
        found = store.root.fs.find((store.root / "outputs").path)
        return sorted(path.rsplit("/", 1)[-1] for path in found if path.endswith((".png", "state", "_files.json")))

    for step in (1, 2, 3):
        shelf(store).publish(step, staged(tmp_path / str(step), f"step {step}"))
        assert files() == (["_files.json"] if store.root.protocol in LOCAL_PROTOCOLS else []) + ["a.png", "state"]
    shelf(store).discard()
    assert files() == []
    assert checkpoints_under_way(store, STYLE) == {}
    with shelf(store).latest() as nothing:
        assert nothing is None


def test_a_checkpoint_whose_files_somebody_removed_counts_as_none(store: ArtifactStore, tmp_path: Path) -> None:
    shelf(store).publish(1, staged(tmp_path / "1", "first"))
    row = store.manifest("lora_checkpoints", STYLE).rows["a" * 12]
    store.root.fs.rm_file(store.file_path(row, "state").path)
    assert shelf(store).latest_step() == 0
    shelf(store).publish(1, staged(tmp_path / "2", "first"))
    assert shelf(store).latest_step() == 1


def test_every_request_to_stop_is_a_new_word(store: ArtifactStore) -> None:
    request = StopRequest(store, STYLE)
    words = [request.word()]
    for _ in range(2):
        request.make()
        words.append(request.word())
    assert words[0] is None
    assert len(set(words)) == 3
