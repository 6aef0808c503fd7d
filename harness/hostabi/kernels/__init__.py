"""Kernels without booting them: which there are, which one is meant, what is in its image."""
