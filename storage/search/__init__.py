"""Search among the embeddings of a survey: their stream, an index of them, what is rare in them."""
