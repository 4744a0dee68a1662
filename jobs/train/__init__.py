"""Training: what is masked, how a token is weighted, and the loop, on one process or many."""
