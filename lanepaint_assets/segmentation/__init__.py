"""Stage 1: road masks from clips, and the VideoPainter folder made of them."""
