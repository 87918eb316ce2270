"""The `qwen2_5_vl` lane inspector: Qwen2.5-VL as caption writer, as reader of lane attributes and as judge of edits."""
