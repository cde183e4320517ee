"""Evaluation of models on labelled frames: metrics, tables and pictures."""
