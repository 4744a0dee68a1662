"""The Dream network: configuration, packed forward, checkpoint loading, tokenizer."""
