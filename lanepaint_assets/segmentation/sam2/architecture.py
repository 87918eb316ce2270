"""The sizes of SAM 2.1, and building them from the package's own classes.

Called by the engine, by the benchmark and by tests (a tiny architecture of the same classes). The numbers are those of
the package's configuration files (`sam2/configs/sam2.1`); no weights are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from lanepaint_assets.segmentation.sam2.package import enter_package

if TYPE_CHECKING:
    import torch

    from lanepaint_assets.segmentation.sam2.predictor import RoadPredictor

ModelSize = Literal["tiny", "small", "base_plus", "large"]


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one SAM 2.1 from another.

    Attributes:
        name: stem of its checkpoint file.
        embed_dim: channels of the image encoder's first stage; they double at each of the next three.
        heads: attention heads of the first stage.
        stages: transformer blocks of each stage.
        global_blocks: blocks that attend to the whole picture.
        window_spec: attention window of each stage, in tokens.
        window_background: size of the windowed positional embedding.
        image_size: side of the square picture that the network sees, pixels; a multiple of 32.
        hidden_dim: channels after the encoder's neck.
        memory_dim: channels of a memory.
        memory_layers: layers of the memory attention.
        feedforward_dim: hidden channels of those layers.
        fuser_layers: convolution blocks of the memory encoder.
    """

    name: str
    embed_dim: int
    heads: int
    stages: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    window_spec: tuple[int, int, int, int] = (8, 4, 14, 7)
    window_background: tuple[int, int] = (7, 7)
    image_size: int = 1024
    hidden_dim: int = 256
    memory_dim: int = 64
    memory_layers: int = 4
    feedforward_dim: int = 2048
    fuser_layers: int = 2


ARCHITECTURES: Mapping[ModelSize, Architecture] = MappingProxyType(
    {
        "tiny": Architecture("sam2.1_hiera_tiny", 96, 1, (1, 2, 7, 2), (5, 7, 9)),
        "small": Architecture("sam2.1_hiera_small", 96, 1, (1, 2, 11, 2), (7, 10, 13)),
        "base_plus": Architecture(
            "sam2.1_hiera_base_plus", 112, 2, (2, 3, 16, 3), (12, 16, 20), window_background=(14, 14)
        ),
        "large": Architecture("sam2.1_hiera_large", 144, 2, (2, 6, 36, 4), (23, 33, 43), window_spec=(8, 4, 16, 8)),
    }
)


def build_predictor(architecture: Architecture, device: torch.device, *, compiled: bool = False) -> RoadPredictor:
    """A predictor with random weights, in evaluation mode.

    Args:
        architecture: see there.
        device: where it is built; 224 million weights are drawn in milliseconds on a GPU and in seconds elsewhere.
        compiled: the package's `vos_optimized` form, which compiles every part at its first use.

    Raises:
        ImportError: torch or the package sam2 is not installed.
    """
    import torch

    enter_package()
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.transformer import RoPEAttention

    from lanepaint_assets.segmentation.sam2.predictor import CompiledRoadPredictor, EagerRoadPredictor

    a = architecture
    side = a.image_size // 16
    with torch.device(device):
        image_encoder = ImageEncoder(
            scalp=1,
            trunk=Hiera(
                embed_dim=a.embed_dim,
                num_heads=a.heads,
                stages=a.stages,
                global_att_blocks=a.global_blocks,
                window_spec=a.window_spec,
                window_pos_embed_bkg_spatial_size=a.window_background,
            ),
            neck=FpnNeck(
                position_encoding=PositionEmbeddingSine(num_pos_feats=a.hidden_dim, normalize=True, temperature=10000),
                d_model=a.hidden_dim,
                backbone_channel_list=[a.embed_dim * factor for factor in (8, 4, 2, 1)],
                fpn_top_down_levels=[2, 3],
                fpn_interp_model="nearest",
            ),
        )
        memory_attention = MemoryAttention(
            d_model=a.hidden_dim,
            pos_enc_at_input=True,
            num_layers=a.memory_layers,
            layer=MemoryAttentionLayer(
                activation="relu",
                dim_feedforward=a.feedforward_dim,
                dropout=0.1,
                pos_enc_at_attn=False,
                d_model=a.hidden_dim,
                pos_enc_at_cross_attn_keys=True,
                pos_enc_at_cross_attn_queries=False,
                self_attention=RoPEAttention(
                    rope_theta=10000.0,
                    feat_sizes=(side, side),
                    embedding_dim=a.hidden_dim,
                    num_heads=1,
                    downsample_rate=1,
                    dropout=0.1,
                ),
                cross_attention=RoPEAttention(
                    rope_theta=10000.0,
                    feat_sizes=(side, side),
                    rope_k_repeat=True,
                    embedding_dim=a.hidden_dim,
                    num_heads=1,
                    downsample_rate=1,
                    dropout=0.1,
                    kv_in_dim=a.memory_dim,
                ),
            ),
        )
        memory_encoder = MemoryEncoder(
            out_dim=a.memory_dim,
            in_dim=a.hidden_dim,
            position_encoding=PositionEmbeddingSine(num_pos_feats=a.memory_dim, normalize=True, temperature=10000),
            mask_downsampler=MaskDownSampler(kernel_size=3, stride=2, padding=1, embed_dim=a.hidden_dim),
            fuser=Fuser(
                CXBlock(dim=a.hidden_dim, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True),
                num_layers=a.fuser_layers,
            ),
        )
        predictor = (CompiledRoadPredictor if compiled else EagerRoadPredictor)(
            image_encoder=image_encoder,
            memory_attention=memory_attention,
            memory_encoder=memory_encoder,
            image_size=a.image_size,
            num_maskmem=7,
            sigmoid_scale_for_mem_enc=20.0,
            sigmoid_bias_for_mem_enc=-10.0,
            use_mask_input_as_output_without_sam=True,
            directly_add_no_mem_embed=True,
            no_obj_embed_spatial=True,
            use_high_res_features_in_sam=True,
            multimask_output_in_sam=True,
            iou_prediction_use_sigmoid=True,
            use_obj_ptrs_in_encoder=True,
            add_tpos_enc_to_obj_ptrs=True,
            proj_tpos_enc_in_obj_ptrs=True,
            use_signed_tpos_enc_to_obj_ptrs=True,
            only_obj_ptrs_in_the_past_for_eval=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            fixed_no_obj_ptr=True,
            multimask_output_for_tracking=True,
            use_multimask_token_for_obj_ptr=True,
            multimask_min_pt_num=0,
            multimask_max_pt_num=1,
            use_mlp_for_obj_ptr_proj=True,
            compile_image_encoder=compiled,
            # What the package's `apply_postprocessing` sets, less its hole filling: that needs a CUDA extension, is
            # skipped silently without it, and the clean-up fills holes anyway.
            binarize_mask_from_pts_for_mem_enc=True,
            fill_hole_area=0,
            sam_mask_decoder_extra_args={
                "dynamic_multimask_via_stability": True,
                "dynamic_multimask_stability_delta": 0.05,
                "dynamic_multimask_stability_thresh": 0.98,
            },
        )
    predictor.eval()
    return predictor
