//! The arithmetic of a decoder: packed GEMM, attention, norms, rotary embedding, SwiGLU, token log-probs, quantised blocks.
