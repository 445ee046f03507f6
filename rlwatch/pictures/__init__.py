"""Relevance as pictures: arrays and words in, palette entries and GIFs out."""
