"""What a CUDA device does in fewer passes: each with a plain form that is its oracle."""
