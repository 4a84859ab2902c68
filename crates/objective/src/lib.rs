//! Training objectives: from log-probs to loss, gradients and metrics.
