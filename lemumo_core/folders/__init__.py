"""Folders of outputs, local or in a bucket, whose files appear whole or not at all."""
