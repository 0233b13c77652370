"""How far two sets of embeddings are apart, whether that is chance, and which bricks stand out."""
