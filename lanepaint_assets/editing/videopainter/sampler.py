"""CogVideoX's sampler without a wait: its noise is drawn on the host while the device is still predicting.

Called by `pipeline.py`, through diffusers' denoising loop. The stock scheduler reads noise levels from the device, for
which the host waits until the prediction is there; only then does it draw noise, two times 1.1 million numbers, at 6
to 9 ms each, while the device waits in turn.
"""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler
from torch import Tensor


class HostNoiseSampler(CogVideoXDPMScheduler):
    """DPM-Solver++ (2M, SDE) for velocities, as `CogVideoXDPMScheduler` has it, with the same numbers from a seed.

    Its last step always ends without noise. Where their number does not divide the 1000 levels of training, the stock
    one may not: at the end of 60 steps it adds some, and of 61 it makes 62, the last one from pure noise.
    """

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:  # noqa: ARG002
        """As the stock method, but noise levels stay on the host, whatever device is asked for."""
        super().set_timesteps(num_inference_steps, "cpu")
        # Of some numbers rounding leaves one level more, -1.
        self.timesteps = self.timesteps[:num_inference_steps]

    def step(  # type: ignore[override]  # without the options of the stock step that it does not read either
        self,
        model_output: Tensor,
        old_pred_original_sample: Tensor | None,
        timestep: Tensor,
        timestep_back: Tensor | None,
        sample: Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = False,  # noqa: ARG002  # the loop asks for a tuple
    ) -> tuple[Tensor, Tensor]:
        """One step towards the clean sample.

        Args:
            model_output: velocity, shaped as `sample`.
            old_pred_original_sample: the step before's second result; None in the first.
            timestep: of this step, on the host.
            timestep_back: of the step before; None in the first.
            sample: noisy.
            generator: on the host.
            return_dict: not used.

        Returns:
            The less noisy sample, and the clean one that this step predicts; float32.
        """
        is_last = int(timestep) == int(self.timesteps[-1])
        previous = -1 if is_last else int(timestep) - self.config["num_train_timesteps"] // len(self.timesteps)
        # Not in the first step, nor in the last, which ends without noise.
        earlier = old_pred_original_sample if previous >= 0 else None
        # 1. Noise. Where the stock step looks back, it draws a second time. From pinned memory, for a copy from any
        # other one waits for the device.
        pinned = sample.device.type == "cuda"
        noise = torch.randn(sample.shape, generator=generator, pin_memory=pinned)
        if earlier is not None:
            noise = torch.randn(sample.shape, generator=generator, pin_memory=pinned)
        # 2. Levels, all on the host.
        alpha = self.alphas_cumprod[int(timestep)]
        alpha_next = self.alphas_cumprod[previous] if previous >= 0 else self.final_alpha_cumprod
        alpha_back = None if timestep_back is None else self.alphas_cumprod[int(timestep_back)]
        h, r, _, _ = self.get_variables(alpha, alpha_next, alpha_back)
        of_sample, of_clean, *_ = self.get_mult(h, r, alpha, alpha_next, alpha_back)
        # 3. The step.
        sample = sample.float()
        clean = alpha.sqrt() * sample - (1 - alpha).sqrt() * model_output
        direction = clean if earlier is None else clean + (clean - earlier) / (2 * r)
        spread = (1 - alpha_next).sqrt() * (1 - (-2 * h).exp()).sqrt()
        return of_sample * sample - of_clean * direction + spread * noise.to(sample.device, non_blocking=True), clean

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Clean samples at one noise level, without a wait: `timesteps` holds one number, on the host."""
        alpha = self.alphas_cumprod[int(timesteps)]
        return alpha.sqrt() * original_samples + (1 - alpha).sqrt() * noise
