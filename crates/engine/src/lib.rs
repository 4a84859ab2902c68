//! A decoder on a device: forward, backward, prefill and decode over packed prefix trees.
