"""Repairs of XLA's CPU backend, behind the switch of `switch`.

Each gives what a plain operation gives, in an order that this backend runs quicker, and its
docstring says by how much: 25 % where a frame or a train step takes 1.25 times the CPU time without
it (`benchmarks.repairs`, 432x240, two objects). What gains less than 10 % is not here. Programs for
GPUs and TPUs have the plain operations alone.
"""
