"""Settings that every config has, whether or not its file names them; docs/tpu_pods.md tells more.

Runs and configs from before a setting existed get its default too.
"""

DEFAULTS = {
    'mesh': {'data': 1, 'fsdp': 1, 'spatial': 1},  # devices along each axis
    'profile': 0,  # steps to profile, once the run is under way; 0: none
    'training': {
        'accumulate': 1,  # parts in which each device works off its clips of a batch
        'nonfinite': 'stop',  # at a loss or gradient that is not finite; 'skip': leave it out
        'nonfinite_limit': 10,  # batches left out at most, then the run stops
        'recompilation': 'warn',  # when the step is compiled again; 'error'
        'keep_best': 1,  # best checkpoints kept
        'export_at': (),  # steps whose weights are kept in files of their own, as at a stage's end
    },
    'optimizer': {'groups': ()},  # (pattern, factor of the rate), see training.step.scale_groups
}


def fill(config, defaults=None):
    """Adds what is missing to a config (dict or ConfigDict), in place, and gives it back.

    >>> fill({'profile': 3, 'training': {'steps': 9}})['training']['accumulate']
    1
    """
    for key, value in (DEFAULTS if defaults is None else defaults).items():
        if isinstance(value, dict):
            if key not in config:
                config[key] = {}
            fill(config[key], value)
        elif key not in config:
            config[key] = value
    return config
