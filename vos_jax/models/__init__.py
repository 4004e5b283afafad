"""The models as Flax modules; `registry` builds them from a config, `contract` they share."""
