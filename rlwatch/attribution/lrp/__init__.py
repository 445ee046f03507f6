"""Layer-wise relevance propagation: rules, composites, and the pass that carries them out."""
