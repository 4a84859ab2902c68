//! The memory that training takes, known before its first step, and what is recomputed to keep to a budget.

use super::CpuEngine;
use super::workspace::Room;
use collimate_model::Parameters;

/// Bytes that training takes with a batch of a given size, or a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The model's weights, packed for both directions.
    pub weights: u64,
    /// What is trained: an adapter and its copy turned for the products, or the weights as the optimiser sees them.
    pub parameters: u64,
    /// The gradient and two moments for each of these parameters.
    pub optimiser: u64,
    /// What the layers leave for the backward pass.
    pub activations: u64,
    /// Gradients under way, the targets' rows, and the threads' scratch memory.
    pub workspace: u64,
    /// Layers that are run again in the backward pass, from the lowest up, to save what they would leave.
    pub recomputed: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Bytes allowed for all of it, if there is a limit.
    pub budget: Option<u64>,
}

impl MemoryPlan {
    /// The parts of the whole and what they are called.
    pub fn parts(&self) -> [(&'static str, u64); 5] {
        [
            ("weights", self.weights),
            ("parameters", self.parameters),
            ("optimiser", self.optimiser),
            ("activations", self.activations),
            ("workspace", self.workspace),
        ]
    }

    /// All parts together.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|part| part.1).sum()
    }

    /// Whether the budget is kept; without one it always is.
    pub fn fits(&self) -> bool {
        self.budget.is_none_or(|budget| self.total() <= budget)
    }
}

impl CpuEngine {
    /// Plans the training of an adapter, or of all weights, on batches of up to `tokens` tokens and `targets` targets.
    ///
    /// Nothing is recomputed unless the budget of [`super::CpuOptions::memory`] demands it, and then as few layers
    /// as will do. The engine keeps to the plan of its largest batch; where even recomputing all that can be does
    /// not fit, [`MemoryPlan::fits`] says so.
    pub fn plan<'a>(&self, tokens: usize, targets: usize, trained: impl Into<Parameters<'a>>) -> MemoryPlan {
        let trained = trained.into();
        self.plan_within_budget(&self.room(tokens, targets, Some(trained)), trained).1
    }

    /// How many layers share states in a pass that is kept, and the plan that follows.
    pub(super) fn plan_within_budget(&self, room: &Room, trained: Parameters<'_>) -> (usize, MemoryPlan) {
        let plan = |sharing| self.plan_of(&Room { keep: true, sharing, ..*room }, trained);
        let sharing = (0..room.layers).find(|&sharing| plan(sharing).fits()).unwrap_or(room.layers);
        (sharing, plan(sharing))
    }

    fn plan_of(&self, room: &Room, trained: Parameters<'_>) -> MemoryPlan {
        let (values, copies) = match trained {
            Parameters::Adapter(lora) => {
                // The slots turned for the products, and a head of its own packed for both directions.
                let slots = lora.slots.last().map_or(0, |slot| slot.range().end);
                let head = lora.head.as_ref().map_or(0, ExactSizeIterator::len);
                (size_of_val(&*lora.values) as u64, 4 * (slots + 2 * head) as u64)
            }
            Parameters::Weights(weights) => (size_of_val(&*weights.values) as u64, 0),
        };
        let scratch = self.pool.current_num_threads() as u64 * room.scratch_bytes();
        MemoryPlan {
            weights: self.weights.bytes(),
            parameters: values + copies,
            optimiser: 3 * values,
            activations: room.layer_bytes(),
            workspace: room.single_bytes() + scratch,
            recomputed: room.recomputed(),
            layers: room.layers,
            budget: self.memory,
        }
    }

    /// The sizes that a batch asks for, in a pass that keeps nothing.
    pub(super) fn room(&self, tokens: usize, targets: usize, beside: Option<Parameters<'_>>) -> Room {
        let layers = self.config.num_hidden_layers;
        let (mut reduced, mut partial) = (vec![0; layers], vec![0; layers]);
        let weights = match beside {
            Some(Parameters::Adapter(lora)) => {
                for slot in &lora.slots {
                    reduced[slot.layer] += slot.rank;
                    partial[slot.layer] += slot.range().len();
                }
                false
            }
            Some(Parameters::Weights(_)) => {
                partial.fill(self.shape.norm_share());
                true
            }
            None => false,
        };
        let largest = |sums: Vec<usize>| sums.into_iter().max().unwrap_or(0);
        let (reduced, partial) = (largest(reduced), largest(partial));
        let (shape, keep, sharing) = (self.shape, false, layers);
        Room { shape, layers, tokens, targets, reduced, partial, weights, keep, sharing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, CpuOptions, Dropout, Engine};
    use collimate_model::{FullWeights, Lora, Model, Trainable};
    use std::path::Path;

    /// A tiny model, with its adapter or its weights to be trained.
    fn open(name: &str) -> (Model, [Trainable; 2]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny").join(name);
        let model = Model::open(&folder).unwrap();
        let lora = Lora::load(&folder.join("adapter"), model.config()).unwrap();
        let weights = FullWeights::read(&model).unwrap();
        (model, [lora.into(), weights.into()])
    }

    fn batch() -> Batch {
        let (mut batch, mut ranges) = (Batch::new(), Vec::new());
        let tokens: Vec<u32> = (0..250).map(|i| i * 7 % 89).collect();
        let branches = [(&tokens[100..150], 90), (&tokens[150..], 101)];
        batch.push_tree(&tokens[..100], branches, &mut ranges);
        batch
    }

    fn engine(model: &Model, memory: Option<u64>) -> CpuEngine {
        let options = CpuOptions { training: true, memory, threads: Some(2), ..CpuOptions::default() };
        CpuEngine::load(model, options, |_| {}).unwrap()
    }

    /// Log-probs and gradient of a step.
    fn step(engine: &mut CpuEngine, trained: &Trainable) -> (Vec<f32>, Vec<f32>) {
        let (batch, dropout) = (batch(), Dropout { probability: 0.1, seed: 5 });
        let log_probs = engine.forward(&batch, trained, Some(dropout)).unwrap().log_probs.clone();
        let slopes: Vec<f32> = (0..log_probs.len()).map(|i| (i as f32).sin()).collect();
        let mut gradient = vec![0.0; trained.values().len()];
        engine.backward(trained, &slopes, &mut gradient).unwrap();
        (log_probs, gradient)
    }

    /// What the plan says of the buffers, the scratch memory aside.
    fn planned(engine: &CpuEngine, plan: &MemoryPlan, trained: &Trainable) -> u64 {
        let batch = batch();
        let room = engine.room(batch.tokens.len(), batch.targets.len(), Some(trained.into()));
        plan.activations + plan.workspace - 2 * room.scratch_bytes()
    }

    #[test]
    fn the_plan_is_what_is_allocated() {
        for name in ["llama", "qwen2_untied_yarn", "qwen3", "gemma2"] {
            let (model, all) = open(name);
            for trained in &all {
                let mut engine = engine(&model, None);
                let plan = engine.plan(batch().tokens.len(), batch().targets.len(), trained);
                assert_eq!((plan.recomputed, plan.fits()), (0, true));
                let first = step(&mut engine, trained);
                assert_eq!(engine.space.bytes(), planned(&engine, &plan, trained), "{name}");
                // A reference pass works in what is there.
                engine.score(&batch(), None).unwrap();
                assert_eq!(engine.space.bytes(), planned(&engine, &plan, trained), "{name}");
                assert_eq!(step(&mut engine, trained), first, "{name}");
            }
        }
    }

    #[test]
    fn a_budget_is_kept_by_recomputing_and_changes_no_bit() {
        for name in ["llama_untied_llama3rope", "qwen3", "gemma2"] {
            let (model, all) = open(name);
            for trained in &all {
                let size =
                    |engine: &CpuEngine| engine.plan(batch().tokens.len(), batch().targets.len(), trained);
                let mut free = engine(&model, None);
                let (whole, expected) = (size(&free), step(&mut free, trained));

                let mut tight = engine(&model, Some(whole.total() - 1));
                let plan = size(&tight);
                assert!(plan.fits() && plan.recomputed == 1, "{name}: {plan:?}");
                assert_eq!(step(&mut tight, trained), expected, "{name}");
                assert_eq!(tight.space.bytes(), planned(&tight, &plan, trained), "{name}");

                let impossible = size(&engine(&model, Some(1)));
                assert_eq!((impossible.fits(), impossible.recomputed), (false, plan.layers - 2), "{name}");
            }
        }
    }
}
