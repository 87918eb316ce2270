"""A network with the real one's call. The first pixel of the front wide camera's last picture says what it does.

Its red is the number of words; with the right green and blue, some numbers are orders.
"""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

LANGUAGE_MODEL = "Qwen/Qwen3-VL-8B-Instruct"
CRASH, HANG, RAISE, NOT_FINITE, CHATTER = 250, 251, 252, 253, 254
# Green and blue beside one of these.
ORDERS = [7, 9]


class FlowMatching(torch.nn.Module):
    def sample(self, batch_size, step_fn, device):
        return step_fn(torch.randn(batch_size, 64, 2, device=device))


class AlpamayoR1(torch.nn.Module):
    pops_input_ids = True

    def __init__(self, speed_mps):
        super().__init__()
        self.speed_mps = torch.nn.Parameter(speed_mps)
        self.diffusion = FlowMatching()
        self.tokenizer = object()

    @classmethod
    def from_pretrained(cls, folder, dtype, use_safetensors):
        assert use_safetensors, "pickled weights may run code"
        config = json.loads((Path(folder) / "config.json").read_text())
        assert json.loads(Path(hf_hub_download(LANGUAGE_MODEL, "tokenizer_config.json")).read_text())
        if "STAND_IN_LOADS" in os.environ:
            with Path(os.environ["STAND_IN_LOADS"]).open("a") as journal:
                journal.write(f"{os.getpid()}\n")
        if "unloadable" in config:
            raise RuntimeError(config["unloadable"])
        return cls(load_file(Path(folder) / "model.safetensors")["speed_mps"]).to(dtype)

    def sample_trajectories_from_data_with_vlm_rollout(
        self,
        data,
        top_p,
        top_k,
        temperature,
        num_traj_samples,
        num_traj_sets,
        diffusion_kwargs,
        max_generation_length,
        return_extra,
    ):
        assert num_traj_sets == 1
        assert (top_k, diffusion_kwargs, return_extra) == (None, None, True)
        assert data["ego_history_xyz"].shape == (1, 1, 16, 3)
        assert data["ego_history_rot"].shape == (1, 1, 16, 3, 3)
        assert data["ego_history_xyz"].dtype == data["ego_history_rot"].dtype == torch.float32
        tokens = data["tokenized_data"]
        ids = tokens.pop("input_ids") if self.pops_input_ids else tokens["input_ids"]
        assert ids.shape[0] == 1
        pictures = tokens["pixel_values"]
        red, *rest = pictures[min(7, len(pictures) - 1), :, 0, 0].tolist()
        # Other pictures have any colours there.
        wish = red if rest == ORDERS else None
        self._act(wish)
        words = self._reason(min(max(1, red), max_generation_length), num_traj_samples, temperature, top_p)
        xyz = self.diffusion.sample(num_traj_samples, self._path, self.speed_mps.device)[None, None]
        if wish == NOT_FINITE:
            xyz[0, 0, 0, 5, 1] = float("nan")
        extra = {
            "cot": np.array(words, dtype=object).reshape(1, 1, -1),
            "meta_action": np.array([""] * len(words), dtype=object).reshape(1, 1, -1),
        }
        return xyz, torch.eye(3).expand(*xyz.shape, 3), extra

    def _act(self, wish):
        if wish == CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        if wish == HANG:
            time.sleep(3600)
        if wish == RAISE:
            raise RuntimeError("device-side assert triggered")
        if wish == CHATTER:
            print("a library's progress on standard output")

    def _reason(self, length, samples, temperature, top_p):
        """A random draw a word and sample, as a language model makes."""
        weights = torch.full((samples, 50), top_p) / temperature
        drawn = torch.cat([torch.multinomial(weights, 1) for _ in range(length)], dim=1).tolist()
        return [" ".join(f"word{index}" for index in row) for row in drawn]

    def _path(self, noise):
        steps = torch.arange(1, 65) * 0.1 * self.speed_mps.float()
        straight = torch.stack([steps, torch.zeros(64), torch.zeros(64)], dim=-1)
        return straight + torch.nn.functional.pad(noise.cumsum(1) * 0.1, (0, 1))
