"""Repairs of XLA's CPU backend, behind the switch of `switch`.

Each gives what a plain operation gives, in an order that this backend runs quicker. Programs for
GPUs and TPUs have the plain operations alone.
"""
