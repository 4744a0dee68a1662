"""Tasks with a generator, a text form and an exact scorer."""
