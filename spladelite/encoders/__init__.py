"""Models: text in, sparse vectors out."""
