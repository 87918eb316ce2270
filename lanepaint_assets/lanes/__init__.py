"""Lane markings as measured things: attributes, bird's-eye geometry, ego motion from the road, the inspector role.

Shared by editing, training and evaluation, which must not import each other.
"""
