"""As R1's, but the cameras are named in the text."""

from alpamayo_r1 import helper
from alpamayo_r1.helper import get_processor

__all__ = ["create_message", "get_processor"]


def create_message(frames, camera_indices):
    assert len(frames) == 4 * len(camera_indices)
    [message] = helper.create_message(frames)
    names = [{"type": "text", "text": f"camera {int(index)}"} for index in camera_indices]
    return [{**message, "content": names + message["content"]}]
