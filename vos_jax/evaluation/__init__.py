"""Scores, protocols, results, reports and comparison of segmentations."""
