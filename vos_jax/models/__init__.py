"""The models as Flax modules: `registry` builds them from a config, `protocol` is the contract."""
