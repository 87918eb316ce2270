"""The `videopainter` engine: CogVideoX, guided by the VideoPainter branch, carries a first frame through a clip."""
