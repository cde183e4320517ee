"""Fine-tuning of the heads, and of the encoder if wanted, on labels."""
