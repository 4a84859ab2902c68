//! Text from a model: sampling, batches of prompts, stop conditions.
