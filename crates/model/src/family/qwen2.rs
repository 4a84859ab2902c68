//! Qwen2 and Qwen2.5: Llama with a bias on q, k and v, whatever the configuration says.

use std::path::Path;

use super::{Description, Family};
use crate::config::DecoderConfig;
use crate::config_file::{ConfigFile, Habits, unsupported};
use crate::error::Result;

pub(super) static QWEN2: Description = Description {
    model_types: &["qwen2"],
    architectures: &["Qwen2ForCausalLM"],
    gguf_architecture: "qwen2",
    gguf_permutes_rotary: false,
    configure,
};

fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    // `sliding_window` alone says nothing: Qwen2 writes it also where it is not used.
    if file.use_sliding_window == Some(true) {
        let hint = "attention must reach over the whole text: take a model without a sliding window";
        return Err(unsupported(path, "use_sliding_window", true, hint));
    }
    let habits = Habits {
        family: Family::Qwen2,
        qkv_bias: true,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 32_768,
    };
    file.decoder(habits, path)
}
