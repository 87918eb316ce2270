"""Model checkpoints as observed things: where they lie and the digest that says whether they changed."""
