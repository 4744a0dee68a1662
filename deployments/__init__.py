"""Ray Serve: HTTP in, tokens out."""
