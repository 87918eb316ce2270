"""As R1's, but it copies its input, asks for flash-attn unless told otherwise, and names its action."""

import copy

import numpy as np
from alpamayo_r1.models.alpamayo_r1 import AlpamayoR1


class Alpamayo1_5(AlpamayoR1):
    pops_input_ids = False

    @classmethod
    def from_pretrained(cls, folder, dtype, use_safetensors, attn_implementation="flash_attention_2"):
        if attn_implementation != "sdpa":
            raise ImportError("flash_attn is not installed")
        return super().from_pretrained(folder, dtype, use_safetensors)

    def sample_trajectories_from_data_with_vlm_rollout(self, data, **options):
        data = copy.deepcopy(data)
        xyz, rotation, extra = super().sample_trajectories_from_data_with_vlm_rollout(data=data, **options)
        named = " and ".join(data["tokenized_data"]["texts"])
        actions = np.full(extra["meta_action"].shape, f"keep lane, seen by {named}", dtype=object)
        return xyz, rotation, {**extra, "meta_action": actions}
