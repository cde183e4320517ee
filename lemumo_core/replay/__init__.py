"""Bags to results: run, evaluate, record, report."""
