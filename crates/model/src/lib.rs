//! What a model is: its configuration, weights, tokenizer, chat template and adapters, in and out.
//!
//! May touch: the files of the models and adapters that it is given.

mod bitsandbytes;
mod blank;
mod config;
mod config_file;
mod conventions;
mod documents;
mod elements;
mod error;
mod family;
mod file;
mod full;
mod fusion;
pub mod gguf;
mod layout;
mod listing;
mod lora;
mod merge;
mod model;
mod module;
mod nested;
mod output_heads;
mod rope;
mod safetensors;
mod safetensors_writer;
mod save;
mod stored_type;
pub mod template;
mod tokenizer;
mod trainable;
mod weights;

pub use bitsandbytes::StoredCodes;
pub use config::DecoderConfig;
pub use conventions::{Activation, LayerAttention, NormNames, Rotary, SublayerNorms};
pub use error::{Error, Result};
pub use family::Family;
pub use full::FullWeights;
pub use layout::{LayerPlaces, LinearPlace, Tensors, WeightLayout, WeightSlot};
pub use listing::{StoredTensor, adapter_tensors};
pub use lora::{InitLoraWeights, Lora, LoraConfig, LoraSlot, OneOrMore, Targets};
pub use merge::gain;
pub use model::Model;
pub use module::Module;
pub use output_heads::{OutputHeads, SCORE};
pub use rope::{Rope, RopeScaling, Yarn};
pub use safetensors_writer::SaveOptions;
pub use save::Watch;
pub use stored_type::StoredType;
pub use template::{ChatTemplate, TemplateOptions};
pub use tokenizer::Tokenizer;
pub use trainable::{Parameters, Trainable};
