"""Models on frames with truth: figures, tables and pictures."""
