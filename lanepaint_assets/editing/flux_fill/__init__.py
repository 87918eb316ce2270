"""The `flux_fill` engine: FLUX.1 Fill paints the first frame of a clip, by its caption and within the mask."""
