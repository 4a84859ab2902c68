//! What a model is: its configuration, weights, tokenizer, chat template and adapters, in and out.
