"""Measure retrieval quality on BEIR folders and on your own judgments."""
