"""Soft aggregation of object probabilities (RGMP; STM, section 3.5; GIEL, section 3.2)."""

import jax
import jax.numpy as jnp

from vos_jax.ops.memory import NEGATIVE

EPSILON = 1e-7


def log1mexp(x):
    """log(1 - exp(x)) for x < 0, without cancellation."""
    return jnp.where(x > -0.693, jnp.log(-jnp.expm1(x)), jnp.log1p(-jnp.exp(x)))


def aggregate(log_probabilities, objects):
    """Merges independent object probabilities into one distribution over background and objects.

    With p_i clipped to [1e-7, 1 - 1e-7] and p_0 = prod_i (1 - p_i), each slot gets the odds
    p / (1 - p), normalised over all slots. Everything is computed from logarithms in float32:
    where several p_i are close to 1, 1 - p_i would carry an error of 6e-8.

    Args:
      log_probabilities: f32[B, K, H, W], log p_i.
      objects: bool[B, K], slots in use; the others get probability exactly 0.

    Returns:
      f32[B, K+1, H, W], logits (log odds), background first; a softmax over axis 1 gives the
      probabilities.
    """
    used = objects[:, :, None, None]
    low, high = jnp.log(EPSILON), jnp.log1p(-EPSILON)
    log_p = jnp.clip(log_probabilities.astype(jnp.float32), low, high)
    log_not_p = log1mexp(log_p)
    log_p0 = jnp.clip(jnp.where(used, log_not_p, 0.0).sum(axis=1, keepdims=True), low, high)
    background = log_p0 - log1mexp(log_p0)
    foreground = jnp.where(used, log_p - log_not_p, NEGATIVE)
    return jnp.concatenate([background, foreground], axis=1)


def labels_of(logits):
    """The most probable slot of each pixel: u8[B, H, W], 0 background, s + 1 slot s.

    Of logits or probabilities [B, K+1, H, W]; ties go to the lower index.
    """
    return jnp.argmax(logits, axis=1).astype(jnp.uint8)


def one_hot_masks(labels, num_slots):
    """Masks f32[B, K, H, W] of the object slots from slot labels u8[B, H, W].

    Label s + 1 is slot s; other values (background, void) belong to no slot.
    """
    slots = jnp.arange(1, num_slots + 1, dtype=jnp.int32)[None, :, None, None]
    return (labels[:, None].astype(jnp.int32) == slots).astype(jnp.float32)


def probabilities_of(logits):
    """Softmax over the slots (axis 1), float32."""
    return jax.nn.softmax(logits.astype(jnp.float32), axis=1)
