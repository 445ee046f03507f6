"""The network that is training stays as it is while it is asked."""
