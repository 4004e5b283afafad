"""Data sets on disk, clips for training, and the batches made of them. NumPy only, no JAX."""
