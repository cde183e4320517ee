"""DeCUR (arXiv 2309.05300): one encoder a modality, embeddings with common and unique parts."""
