"""The `sam2` road segmenter: SAM 2.1's video predictor behind the `RoadSegmenter` role."""
