//! What a batch costs beside others of the same model: by this, work is shared out among workers.

use crate::Batch;
use collimate_kernels::attention::Segment;
use collimate_model::{DecoderConfig, Module};

/// Multiply-adds of a forward pass over a batch: the products of the layers, attention between the tokens that see each
/// other, and the head at the targets. It depends on the model's shape and the batch alone, never on the machine.
pub fn cost(config: &DecoderConfig, batch: &Batch) -> u64 {
    let product = |module: &Module| {
        let (inputs, outputs) = module.dimensions(config);
        inputs * outputs
    };
    let products = batch.tokens.len() * Module::ALL.iter().map(product).sum::<usize>();
    let seen = |segment: &Segment| segment.len * segment.position + segment.len * (segment.len + 1) / 2;
    let heads = config.num_attention_heads * config.head_dim;
    let attention = 2 * heads * batch.segments.iter().map(seen).sum::<usize>();
    let head = batch.targets.len() * config.hidden_size * config.vocab_size;
    (config.num_hidden_layers * (products + attention) + head) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use collimate_model::Model;
    use std::path::Path;

    #[test]
    fn what_is_shared_is_paid_once_and_targets_cost_the_head() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama");
        let model = Model::open(&folder).unwrap();
        let of = |shared: &[u32], branches: [&[u32]; 2], trained_from: usize| {
            let (mut batch, mut ranges) = (Batch::new(), Vec::new());
            batch.push_tree(shared, branches.map(|branch| (branch, trained_from)), &mut ranges);
            cost(model.config(), &batch)
        };
        // Two sequences of four tokens, each seeing 10 pairs; or a prompt of two tokens with two branches of two: the
        // prompt sees 3 pairs, each branch 7.
        let (apart, tree) = (of(&[], [&[1, 2, 3, 4]; 2], 9), of(&[1, 2], [&[3, 4]; 2], 9));
        let config = model.config();
        let attention = 2 * config.num_attention_heads * config.head_dim * config.num_hidden_layers;
        let layers: usize = Module::ALL.iter().map(|m| m.dimensions(config)).map(|(i, o)| i * o).sum();
        assert_eq!(apart as usize, 8 * layers * config.num_hidden_layers + 20 * attention);
        assert_eq!(tree as usize, 6 * layers * config.num_hidden_layers + 17 * attention);
        let head = (2 * config.hidden_size * config.vocab_size) as u64;
        assert_eq!(of(&[1, 2], [&[3, 4]; 2], 3), tree + head);
    }
}
