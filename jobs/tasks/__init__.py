"""Tasks with a generator, a text and an exact scorer."""
