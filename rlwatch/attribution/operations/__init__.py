"""What a network does between its pixels and Q: which operation is known, and how it runs so that relevance passes."""
