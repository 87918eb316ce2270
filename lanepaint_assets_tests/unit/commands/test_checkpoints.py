"""`lanepaint checkpoints`: folders are filled from a hub or a copy, goes on after a break, and damage is told."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from upath import UPath

from lanepaint_assets.checkpoints import files as files_module
from lanepaint_assets.checkpoints import hub as hub_module
from lanepaint_assets.checkpoints import mirror as checkpoint_mirror
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS, list_checkpoint
from lanepaint_assets.checkpoints.files import CheckpointError, folder_digest
from lanepaint_assets.cli import cli
from lanepaint_assets.commands import checkpoints as commands
from lanepaint_assets.commands.checkpoints import fill, verify
from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.checkpoints.conftest import write_pipeline, write_torch_file
from lanepaint_assets_tests.unit.checkpoints.hub_server import COMMIT, Hub, serving
from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import save_checkpoint

SAM2, FLUX, COG = "sam2_checkpoint", "flux_fill_checkpoint", "cogvideox_checkpoint"
BRANCH, ALPAMAYO = "videopainter_branch_checkpoint", "alpamayo_checkpoint"
SHARD = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"


class Machine:
    """A root, and what its commands say."""

    def __init__(self, root: str | Path, **settings: Any) -> None:
        self.platform = Platform(Settings(root=str(root), **settings))
        self.lines: list[str] = []

    def fill(
        self, *names: str, mirror: str | Path | None = None, revision: str | None = None, dry_run: bool = False
    ) -> list[str]:
        """The lines of one command."""
        self.lines.clear()
        address = None if mirror is None else str(mirror)
        fill(self.platform, names, mirror=address, revision=revision, dry_run=dry_run, say=self.lines.append)
        return list(self.lines)

    def verify(self, *names: str, quick: bool = False, files: bool = False) -> tuple[bool, dict[str, str]]:
        """Whether all is well, and the rest of each line by its first word."""
        self.lines.clear()
        is_sound = verify(self.platform, names, quick=quick, files=files, say=self.lines.append)
        return is_sound, {line.split()[0]: " ".join(line.split()[1:]) for line in self.lines}

    def folder(self, asset: str) -> UPath:
        return self.platform.checkpoint_folder(asset)

    def path(self, asset: str) -> Path:
        return Path(self.folder(asset).path)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root", cache=str(tmp_path / "cache"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """With every repository, and with files in each that nobody needs."""
    flux = contents(write_pipeline(tmp_path / "published"))
    needless = {"README.md": b"about", "flux1-fill-dev.safetensors": b"again", "teaser.png": b"picture"}
    sam2 = write_torch_file(tmp_path / "sam2.1_hiera_large.pt", bytes(range(256))).read_bytes()
    branch = {name.removeprefix("vae/"): content for name, content in flux.items() if name.startswith("vae/")}
    alpamayo = contents(save_checkpoint(tmp_path / "published_alpamayo"))
    inside = "VideoPainter/checkpoints/branch"
    made = Hub(
        {
            "facebook/sam2.1-hiera-large": {"sam2.1_hiera_large.pt": sam2, "model.safetensors": b"other format"},
            "black-forest-labs/FLUX.1-Fill-dev": {**flux, **needless},
            "THUDM/CogVideoX-5b-I2V": flux,
            "TencentARC/VideoPainter": {
                **{f"{inside}/{name}": content for name, content in branch.items()},
                "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors": b"unused",
            },
            **{
                repository: {
                    **{
                        name.partition("/")[2]: content
                        for name, content in alpamayo.items()
                        if name.startswith(f"{repository.partition('/')[2]}/")
                    },
                    "unused.bin": b"pickled",
                }
                for repository in ("nvidia/Alpamayo-R1-10B", "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-2B-Instruct")
            },
        }
    )
    made.repositories["Qwen/Qwen3-VL-8B-Instruct"]["model.safetensors"] = b"not needed"
    from huggingface_hub import constants

    with serving(made):
        monkeypatch.setattr(constants, "ENDPOINT", made.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", made.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield made


def test_the_checkpoints_of_the_chosen_engines_are_downloaded_to_their_documented_folders(
    hub: Hub, tmp_path: Path
) -> None:
    machine = Machine(
        tmp_path / "root",
        segmenter="sam2",
        first_frame_painter="flux_fill",
        video_painter="videopainter",
        driver="alpamayo",
    )
    lines = machine.fill()
    assert [line.split(":")[0] for line in lines if ": whole, " in line] == [SAM2, FLUX, COG, BRANCH, ALPAMAYO]
    checkpoints = tmp_path / "root" / "checkpoints"
    assert sorted(path.name for path in (checkpoints / "sam2").iterdir() if path.is_file()) == ["sam2.1_hiera_large.pt"]
    flux = checkpoints / "videopainter" / "ckpt" / "flux_inp"
    assert (flux / SHARD).read_bytes() == hub.repositories["THUDM/CogVideoX-5b-I2V"][SHARD]
    assert not (flux / "flux1-fill-dev.safetensors").exists()
    assert not (flux / "teaser.png").exists()
    assert (checkpoints / "videopainter/ckpt/VideoPainter/checkpoints/branch/config.json").is_file()
    assert not (checkpoints / "videopainter/ckpt/VideoPainterID").exists()
    assert (checkpoints / "alpamayo/Alpamayo-R1-10B/model.safetensors").is_file()
    assert not list((checkpoints / "alpamayo").rglob("*.bin"))
    assert not (checkpoints / "alpamayo/Qwen3-VL-8B-Instruct/model.safetensors").exists()
    is_sound, told = machine.verify()
    assert is_sound
    assert told["qwen_vl_checkpoint"] == "absent checkpoints/videopainter/ckpt/vlm"


def test_a_second_download_brings_nothing_and_a_dry_run_writes_nothing(hub: Hub, machine: Machine) -> None:
    (line,) = machine.fill(FLUX, dry_run=True)
    assert line.startswith(f"{FLUX}: black-forest-labs/FLUX.1-Fill-dev at {COMMIT[:12]}, 10 files, ")
    assert hub.sent == []
    assert machine.verify(FLUX)[1][FLUX].startswith("absent")
    machine.fill(FLUX)
    assert len(hub.sent) == 10
    machine.fill(FLUX)
    assert len(hub.sent) == 10


def test_a_download_that_broke_off_goes_on(hub: Hub, machine: Machine) -> None:
    hub.down.add(SHARD)
    with pytest.raises(CheckpointError, match="the same command goes on from there"):
        machine.fill(COG)
    sent = sorted(set(hub.sent))
    assert SHARD not in sent
    hub.down.clear()
    hub.sent.clear()
    machine.fill(COG)
    assert machine.verify(COG)[0]
    assert SHARD in hub.sent
    assert not set(sent) & set(hub.sent)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda hub: hub.gated.add("black-forest-labs/FLUX.1-Fill-dev"),
            "accept its licence: do so at https://hugging",
        ),
        (lambda hub: hub.repositories.pop("black-forest-labs/FLUX.1-Fill-dev"), "is not there, or not for you"),
    ],
)
def test_a_repository_that_is_not_given_says_what_to_do(hub: Hub, machine: Machine, change: Any, told: str) -> None:
    change(hub)
    with pytest.raises(CheckpointError, match=told) as refused:
        machine.fill(FLUX)
    assert "HF_TOKEN" in str(refused.value)


def test_an_unknown_revision_is_told(hub: Hub, machine: Machine) -> None:
    with pytest.raises(CheckpointError, match="has no such revision"):
        machine.fill(FLUX, revision="v9")
    assert machine.fill(FLUX, revision=COMMIT)
    with pytest.raises(CommandError, match="--revision is of one repository"):
        machine.fill(FLUX, COG, revision="main")


def test_without_network_the_way_without_it_is_named(
    hub: Hub, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="Without network, copy it from a place that has it: --from FOLDER"):
        machine.fill(FLUX)


def test_a_disk_that_is_too_small_is_told_before_anything_is_downloaded(
    hub: Hub, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 990, 10))
    with pytest.raises(CheckpointError, match=r"0\.0 GB are free"):
        machine.fill(FLUX)
    assert hub.sent == []


def test_without_the_library_its_installation_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "missing_modules", lambda _: ["huggingface_hub"])
    with pytest.raises(CheckpointError, match=r"pip install 'lanepaint\[hub\]'"):
        machine.fill(FLUX)


@pytest.fixture
def bucket(gcs_folder: str, tmp_path: Path) -> Machine:
    """A machine whose root is in a bucket."""
    return Machine(gcs_folder, cache=str(tmp_path / "cache"))


def test_a_bucket_is_filled_by_way_of_this_machine_which_keeps_nothing(
    hub: Hub, bucket: Machine, tmp_path: Path
) -> None:
    bucket.fill(COG, BRANCH, ALPAMAYO)
    assert bucket.verify(COG, BRANCH, ALPAMAYO)[0]
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert not list((tmp_path / "cache" / "downloads").iterdir())


def test_a_second_download_into_a_bucket_brings_nothing(hub: Hub, bucket: Machine) -> None:
    bucket.fill(COG, BRANCH, ALPAMAYO)
    hub.sent.clear()
    lines = bucket.fill(COG, BRANCH, ALPAMAYO)
    assert hub.sent == []
    assert [line for line in lines if "to be downloaded" in line and "; 0.0 GB" not in line] == []


def test_a_bucket_gets_what_changed_at_the_hub_or_in_the_bucket_and_no_more(hub: Hub, bucket: Machine) -> None:
    bucket.fill(COG)
    hub.sent.clear()
    files = hub.repositories["THUDM/CogVideoX-5b-I2V"]
    files[SHARD] = files[SHARD][:-8] + b"\x01" * 8
    (bucket.folder(COG) / "model_index.json").write_bytes(b"x" * len(files["model_index.json"]))
    bucket.fill(COG)
    assert sorted(hub.sent) == sorted(["model_index.json", SHARD])
    for name in hub.sent:
        assert (bucket.folder(COG) / name).read_bytes() == files[name]


def test_a_download_into_a_bucket_that_broke_off_goes_on(hub: Hub, bucket: Machine) -> None:
    hub.down.add(SHARD)
    with pytest.raises(CheckpointError, match="the same command goes on from there"):
        bucket.fill(COG)
    sent = set(hub.sent)
    hub.down.clear()
    hub.sent.clear()
    bucket.fill(COG)
    assert bucket.verify(COG)[0]
    assert SHARD in hub.sent
    assert not sent & set(hub.sent)


def test_a_file_that_the_hub_sent_damaged_does_not_reach_the_bucket(
    hub: Hub, bucket: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = hub_module.published_files

    def published_files(*given: Any) -> Any:
        commit, files = said(*given)
        return commit, tuple(replace(each, identity="0" * 64) if each.name == SHARD else each for each in files)

    monkeypatch.setattr(commands, "published_files", published_files)
    with pytest.raises(CheckpointError, match="damaged on its way"):
        bucket.fill(COG)
    assert not (bucket.folder(COG) / SHARD).exists()


def test_a_disk_that_holds_one_file_is_enough_for_a_bucket_and_a_smaller_one_is_told(
    hub: Hub, bucket: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(map(len, hub.repositories["THUDM/CogVideoX-5b-I2V"].values()))
    for free, fits in ((largest - 1, False), (largest, True)):
        monkeypatch.setattr(commands.shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(free, 0, free))
        if fits:
            bucket.fill(COG)
        else:
            with pytest.raises(CheckpointError, match="LANEPAINT_CACHE names another folder"):
                bucket.fill(COG)
    assert bucket.verify(COG)[0]


def test_what_was_downloaded_into_a_bucket_need_not_be_read_to_be_known(
    hub: Hub, bucket: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.fill(COG)
    expected = folder_digest(bucket.folder(COG))
    monkeypatch.setattr(files_module, "_read_digest", lambda path: pytest.fail(f"{path} was read"))
    files_module._digest.cache_clear()
    another = Platform(Settings(root=bucket.platform.settings.root, cache=str(tmp_path / "of_another_machine")))
    assert another.checkpoint_digest(COG) == expected


def test_a_file_of_a_bucket_that_is_not_what_was_written_is_damaged(hub: Hub, bucket: Machine) -> None:
    bucket.fill(COG)
    note = bucket.platform.store.root / "observed" / "digests" / f"{COG}.json"
    known = json.loads(note.read_bytes())
    known["files"][SHARD][1] = "0" * 64
    note.write_text(json.dumps(known))
    is_sound, told = bucket.verify(COG)
    assert not is_sound
    assert "is not what was downloaded" in told[COG]


def test_a_second_copy_into_a_bucket_brings_nothing_and_is_known(
    mirror: UPath, bucket: Machine, tmp_path: Path
) -> None:
    bucket.fill(COG, mirror=mirror)
    assert bucket.platform.checkpoint_digest(COG) == folder_digest(mirror / CHECKPOINT_FOLDERS[COG])
    assert f"{COG}: 0 files, 0.0 GB to be copied" in bucket.fill(COG, mirror=mirror)[0]
    shard = mirror / CHECKPOINT_FOLDERS[COG] / SHARD
    shard.write_bytes(shard.read_bytes()[:-8] + b"\x01" * 8)
    assert f"{COG}: 1 files" in bucket.fill(COG, mirror=mirror)[0]
    # Files in memory have no time of writing, which a process knows their digests by.
    files_module._digest.cache_clear()
    assert bucket.platform.checkpoint_digest(COG) == folder_digest(mirror / CHECKPOINT_FOLDERS[COG])


def test_a_copy_on_this_disk_is_not_read_again_to_be_known(
    mirror: UPath, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "REMEMBERED_BYTES", 0)
    machine.fill(COG, mirror=mirror)
    expected = folder_digest(mirror / CHECKPOINT_FOLDERS[COG])
    monkeypatch.setattr(files_module, "_read_digest", lambda path: pytest.fail(f"{path} was read"))
    assert machine.platform.checkpoint_digest(COG) == expected


def test_a_step_does_not_read_the_copy_that_was_made_before_it_began_to_know_it(
    hub: Hub, bucket: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.fill(COG)
    expected = folder_digest(bucket.folder(COG))
    monkeypatch.setattr(files_module, "REMEMBERED_BYTES", 0)
    cache = str(tmp_path / "cache_of_the_pod")
    Machine(tmp_path / "pod", cache=cache).fill(COG, mirror=f"{bucket.platform.settings.root}/checkpoints")
    monkeypatch.setattr(files_module, "_read_digest", lambda path: pytest.fail(f"{path} was read"))
    step = Settings(
        root=bucket.platform.settings.root, cache=cache, checkpoints_mount=str(tmp_path / "pod" / "checkpoints")
    )
    assert Platform(step).checkpoint_digest(COG) == expected


def test_cpu_engines_need_no_checkpoints(machine: Machine) -> None:
    with pytest.raises(CommandError, match="the chosen engines read no checkpoints"):
        machine.fill()
    assert machine.verify() == (
        True,
        {name: f"absent checkpoints/{CHECKPOINT_FOLDERS[name]}" for name in CHECKPOINT_FOLDERS},
    )


@pytest.fixture(params=["folder", "bucket"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A place laid out like ROOT/checkpoints that has CogVideoX and SAM 2."""
    local = tmp_path / "mirror"
    write_pipeline(local / CHECKPOINT_FOLDERS[COG])
    write_torch_file(local / CHECKPOINT_FOLDERS[SAM2] / "sam2.1_hiera_large.pt")
    write_torch_file(local / CHECKPOINT_FOLDERS[SAM2] / "sam2.1_hiera_tiny.pt")
    if request.param == "folder":
        return UPath(local)
    remote = UPath(f"memory://{uuid.uuid4().hex}/checkpoints")
    for name, content in contents(local).items():
        (remote / name).write_bytes(content)
    return remote


def test_a_mirror_fills_the_folders_with_what_the_settings_choose(mirror: UPath, machine: Machine) -> None:
    machine.fill(COG, SAM2, mirror=mirror)
    assert machine.verify(COG, SAM2)[0]
    assert folder_digest(machine.folder(COG)) == folder_digest(mirror / CHECKPOINT_FOLDERS[COG])
    assert [path.name for path in machine.path(SAM2).glob("*.pt")] == ["sam2.1_hiera_large.pt"]
    assert not list(machine.path(COG).rglob("*.part"))


def test_a_second_copy_brings_what_changed_and_of_a_broken_one_the_rest(mirror: UPath, machine: Machine) -> None:
    machine.fill(COG, mirror=mirror)
    assert f"{COG}: 0 files, 0.0 GB to be copied" in machine.fill(COG, mirror=mirror)[0]
    shard = mirror / CHECKPOINT_FOLDERS[COG] / SHARD
    # As many bytes, another content.
    shard.write_bytes(shard.read_bytes()[:-8] + b"\x01" * 8)
    (machine.path(COG) / "model_index.json").unlink()
    lines = machine.fill(COG, mirror=mirror)
    assert f"{COG}: 2 files" in lines[0]
    assert folder_digest(machine.folder(COG)) == folder_digest(mirror / CHECKPOINT_FOLDERS[COG])


def test_a_copy_that_fails_in_the_middle_goes_on_with_the_rest(
    mirror: UPath, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = checkpoint_mirror.fetch, list[str]()
    source = mirror / CHECKPOINT_FOLDERS[COG]

    def fetch(path: UPath, target: Path) -> str:
        if SHARD in begun:
            # Long enough for the failure to be seen.
            time.sleep(0.5)
        begun.append(path.path.removeprefix(f"{source.path}/"))
        if begun[-1] == SHARD:
            raise CheckpointError("the line went dead")
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_mirror, "fetch", fetch)
        patched.setattr(checkpoint_mirror, "AT_ONCE", 1)
        with pytest.raises(CheckpointError, match="went dead"):
            machine.fill(COG, mirror=mirror)
    listed = [file.name for file in list_checkpoint(mirror / CHECKPOINT_FOLDERS[COG]).files]
    # One thread may have taken the next file before the failure was seen; no other is begun.
    assert set(begun) <= set(listed[: listed.index(SHARD) + 2])
    rest = len(listed) - len(set(begun) - {SHARD})
    assert f"{COG}: {rest} files" in machine.fill(COG, mirror=mirror)[0]


def test_a_mirror_without_the_checkpoint_is_told(mirror: UPath, machine: Machine) -> None:
    with pytest.raises(CheckpointError, match=r"flux_inp: there is no such checkpoint to copy"):
        machine.fill(FLUX, mirror=mirror)
    (mirror / CHECKPOINT_FOLDERS[COG] / "vae" / "x.safetensors.part").write_bytes(b"1")
    with pytest.raises(CheckpointError, match="still being written"):
        machine.fill(COG, mirror=mirror)


@pytest.mark.parametrize("address", ["nowhere://bucket", "/proc/1/mem"])
def test_an_address_that_cannot_be_read_is_told(machine: Machine, address: str) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be copied from|there is no such checkpoint to copy"):
        machine.fill(COG, mirror=address)


def test_files_that_may_not_be_read_are_not_well(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(commands, "checkpoint_listing", refuse)
    is_sound, told = machine.verify(COG)
    assert not is_sound
    assert "Permission denied" in told[COG]


def test_a_half_mirror_is_told_after_the_copy(mirror: UPath, machine: Machine) -> None:
    (mirror / CHECKPOINT_FOLDERS[COG] / SHARD).unlink()
    with pytest.raises(CheckpointError, match="this file of the checkpoint is missing"):
        machine.fill(COG, mirror=mirror)


def test_verify_prints_the_digests_that_fingerprints_hold(machine: Machine) -> None:
    write_pipeline(machine.path(COG))
    file = write_torch_file(machine.path(SAM2) / "sam2.1_hiera_large.pt")
    is_sound, told = machine.verify(files=True)
    assert is_sound
    assert told[COG].endswith(f"sha256 {folder_digest(machine.folder(COG))}")
    assert told[SAM2] == f"whole 1 file, 0.0 GB sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert told["vae/config.json"].endswith(hashlib.sha256(b'{"_diffusers_version": "0"}').hexdigest())
    _, quick = machine.verify(quick=True)
    assert quick[COG] == "whole 9 files, 0.0 GB"


def test_verify_names_what_is_missing_cut_or_lacks_a_companion(machine: Machine) -> None:
    write_pipeline(machine.path(COG))
    (machine.path(COG) / SHARD).write_bytes(b"cut")
    write_pipeline(machine.path(FLUX))
    (machine.path(FLUX) / "vae" / "config.json").unlink()
    save_checkpoint(machine.path(ALPAMAYO))
    shutil.rmtree(machine.path(ALPAMAYO) / "Qwen3-VL-2B-Instruct")
    is_sound, told = machine.verify(quick=True)
    assert not is_sound
    assert told[COG].startswith("DAMAGED")
    assert "damaged or cut short" in told[COG]
    assert "vae/config.json: this file of the checkpoint is missing" in told[FLUX]
    assert "Qwen/Qwen3-VL-2B-Instruct is missing of the three repositories" in told[ALPAMAYO]


def test_a_checkpoint_that_is_needed_and_absent_is_not_well(tmp_path: Path, machine: Machine) -> None:
    assert machine.verify()[0]
    assert not machine.verify(COG)[0]
    assert not Machine(tmp_path / "root", segmenter="sam2").verify()[0]


def test_a_bit_that_changed_since_the_download_is_found(hub: Hub, machine: Machine) -> None:
    machine.fill(COG)
    shard = machine.path(COG) / SHARD
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert machine.verify(COG, quick=True)[0]
    is_sound, told = machine.verify(COG)
    assert not is_sound
    assert f"DAMAGED {SHARD}: it is not what was downloaded" in told[COG]


def test_a_bit_that_changed_in_an_archive_is_found_by_its_own_checksums(machine: Machine) -> None:
    file = write_torch_file(machine.path(SAM2) / "sam2.1_hiera_large.pt", b"weights" * 9)
    content = file.read_bytes()
    place = content.index(b"weights")
    file.write_bytes(content[:place] + b"W" + content[place + 1 :])
    assert machine.verify(SAM2, quick=True)[0]
    is_sound, told = machine.verify(SAM2)
    assert not is_sound
    assert "is damaged; download it again" in told[SAM2]


def test_the_command_takes_short_names_and_its_status_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path / "root"))
    write_torch_file(tmp_path / "root" / "checkpoints" / "sam2" / "sam2.1_hiera_large.pt")
    run = CliRunner().invoke
    assert run(cli, ["checkpoints", "verify", "sam2", "--quick"]).exit_code == 0
    assert run(cli, ["checkpoints", "verify", SAM2, "cogvideox"]).exit_code == 1
    refused = run(cli, ["checkpoints", "verify", "sam3"])
    assert refused.exit_code == 2
    assert "'sam3' is none of sam2, flux_fill," in refused.output
    copied = run(
        cli, ["checkpoints", "download", "sam2", "--from", str(tmp_path / "root" / "checkpoints"), "--dry-run"]
    )
    assert copied.exit_code == 0, copied.output
