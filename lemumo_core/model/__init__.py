"""The network: patch embeddings, encoders and heads."""
