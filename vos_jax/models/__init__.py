"""Flax modules of the models; `registry` builds them from a config, `contract` is what they share."""
