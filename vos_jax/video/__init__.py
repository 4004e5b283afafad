"""A user's own video: reading, writing, and segmenting it in constant memory. Without jax."""
