//! The training loop: optimiser, schedule, checkpoints, metrics.
