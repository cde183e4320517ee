"""Pretraining methods: a file or folder each, with its networks, views and loss."""
