"""What a run yields, written for TensorBoard."""
