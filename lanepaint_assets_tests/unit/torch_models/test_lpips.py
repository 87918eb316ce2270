"""LPIPS is absent with a reason unless the published weights are at hand; with them it tells alike from unlike."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lanepaint_assets.torch_models import lpips
from lanepaint_assets.torch_models.lpips import backbone_file, load_lpips, why_absent


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_weights_are_looked_for_where_torch_itself_keeps_them(own_cache: Path) -> None:
    torch = pytest.importorskip("torch")
    assert backbone_file() == own_cache / "alexnet-owt-7be5be79.pth"
    assert backbone_file().parent == Path(torch.hub.get_dir()) / "checkpoints"


def test_without_weights_lpips_is_absent_and_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "LIBRARIES", ())
    distance, reason = load_lpips()
    assert distance is None
    assert reason == why_absent()
    assert reason is not None
    assert "alexnet-owt-7be5be79.pth are not in torch's cache" in reason


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "LIBRARIES", ("numpy", "no_such_library"))
    assert why_absent() == "no_such_library not installed; install with: pip install 'lanepaint[quality]'"


def test_a_file_of_the_right_name_with_other_content_is_not_taken_for_the_weights(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpips, "LIBRARIES", ())
    own_cache.mkdir(parents=True)
    backbone_file().write_bytes(b"anything")
    distance, reason = load_lpips()
    assert distance is None
    assert reason is not None
    assert "is not the file that torchvision publishes" in reason


@pytest.mark.usefixtures("torch_on_one_thread")
def test_the_files_weights_are_the_ones_that_measure(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lanepaint_assets_tests import torchvision_ops  # noqa: F401

    torch = pytest.importorskip("torch")
    pytest.importorskip("torchmetrics")
    import torchvision

    torch.manual_seed(0)
    own_cache.mkdir(parents=True)
    made = torchvision.models.alexnet(weights=None)
    features = {name: value for name, value in made.state_dict().items() if name.startswith("features.")}
    torch.save(features, backbone_file())
    digest = hashlib.sha256(backbone_file().read_bytes()).hexdigest()
    monkeypatch.setattr(lpips, "BACKBONE_DIGEST", digest[:8])
    distance, reason = load_lpips()
    assert reason is None
    assert distance is not None

    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    changed = picture.copy()
    changed[:, :32] = 255 - changed[:, :32]
    assert distance(picture, picture).max() == pytest.approx(0.0, abs=1e-7)
    values = distance(picture, changed)
    assert values.shape == (64, 96)
    assert values[:, :16].mean() > 3 * values[:, 80:].mean()

    kernel = distance._network.net.slice1[0].weight  # type: ignore[attr-defined]
    assert torch.equal(kernel, made.features[0].weight)
