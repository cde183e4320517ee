"""DINO (arXiv 2104.14294) with the token loss of iBOT (arXiv 2111.07832)."""
