"""The other families of explanation: gradients, paths, perturbation, sampling, DeepLIFT."""
