"""lm-evaluation-harness drives the engine as `--model dream`."""
