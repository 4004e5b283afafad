"""Data sets and weights made ready for vos_jax."""
