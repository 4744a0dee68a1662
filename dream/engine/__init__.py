"""The engine: who runs next, one packed forward, and the loop around them."""
