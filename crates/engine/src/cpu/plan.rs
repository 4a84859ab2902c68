//! The memory that training takes, known before its first step, and what is recomputed to keep to a budget.

use super::described::Described;
use super::shape::Shape;
use super::workspace::Room;
use super::{CpuEngine, CpuOptions};
use collimate_model::{DecoderConfig, Lora, LoraSlot, Parameters, WeightLayout};

/// Bytes that training takes with a batch of a given size, or a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The model's weights, packed for both directions.
    pub weights: u64,
    /// What is trained: an adapter and its copy turned for the products, or the weights as the optimiser sees them.
    pub parameters: u64,
    /// The gradients of these parameters, one vector or several that are added up, and the optimiser's moments.
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

/// What decides the memory of a training beside the model and its batches: how much is trained, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrainedSizes {
    /// Parameters trained.
    pub values: usize,
    /// Numbers held beside them: an adapter's slots turned for the products, a head of its own packed for both
    /// directions, and what it began as, which the model that is without it keeps too.
    copies: usize,
    /// Widest row of reduced inputs of a layer: the sum of its ranks.
    pub(super) reduced: usize,
    /// Most values of a block's share of the gradients of a layer: those of its adapters, or of norms.
    pub(super) partial: usize,
    /// Whether it is the weights themselves that are trained.
    pub(super) weights: bool,
    /// Whether magnitudes are trained, of which the backward pass forms their modules' outputs again.
    pub(super) magnitudes: bool,
}

impl TrainedSizes {
    /// All weights of a model.
    pub fn weights(config: &DecoderConfig) -> Self {
        Self::whole(&WeightLayout::new(config), Shape::new(config))
    }

    fn whole(layout: &WeightLayout, shape: Shape) -> Self {
        Self {
            values: layout.len(),
            copies: 0,
            reduced: 0,
            partial: shape.norm_share(),
            weights: true,
            magnitudes: false,
        }
    }
}

impl From<&Lora> for TrainedSizes {
    /// An adapter, whose values need not be there yet.
    fn from(lora: &Lora) -> Self {
        let layers = || lora.slots.chunk_by(|one, other| one.layer == other.layer);
        let largest = |size: fn(&LoraSlot) -> usize| {
            layers().map(|slots| slots.iter().map(size).sum()).max().unwrap_or(0)
        };
        let slots = lora.slots.last().map_or(0, |slot| slot.range().end);
        let head = lora.head.as_ref().map_or(0, ExactSizeIterator::len);
        let start = if lora.is_pissa() { 2 * slots } else { 0 };
        Self {
            values: lora.parameters(),
            copies: slots + start + 2 * head,
            reduced: largest(|slot| slot.rank),
            partial: largest(|slot| slot.range().len()),
            weights: false,
            magnitudes: lora.slots.iter().any(|slot| slot.magnitude.is_some()),
        }
    }
}

impl MemoryPlan {
    /// Plans a training before anything is loaded, as [`CpuEngine::plan`] does with the model at hand. Of a description
    /// alone it is not known what is stored quantised already.
    pub fn of<'a>(
        decoder: impl Into<Described<'a>>,
        options: CpuOptions,
        [tokens, targets]: [usize; 2],
        trained: TrainedSizes,
    ) -> Self {
        let threads = options.threads.filter(|&threads| threads > 0);
        let threads = threads.or_else(|| Some(std::thread::available_parallelism().ok()?.get()));
        let decoder = decoder.into();
        let planner = Planner {
            weights: decoder.weight_bytes(options),
            threads: threads.unwrap_or(1),
            memory: options.memory,
            moments: options.moments,
            more_gradients: options.more_gradients,
        };
        let config = decoder.config;
        let room = Room::new(Shape::new(config), config.num_hidden_layers, [tokens, targets], Some(trained));
        planner.within_budget(&room, trained).1
    }
}

/// What plans are made from, whatever the batch.
pub(super) struct Planner {
    pub weights: u64,
    pub threads: usize,
    pub memory: Option<u64>,
    pub moments: Option<u64>,
    pub more_gradients: usize,
}

impl Planner {
    /// How many layers share states in a pass that is kept, and the plan that follows.
    pub fn within_budget(&self, room: &Room, trained: TrainedSizes) -> (usize, MemoryPlan) {
        let plan = |sharing| self.plan(&Room { keep: true, sharing, ..*room }, trained);
        let sharing = (0..room.layers).find(|&sharing| plan(sharing).fits()).unwrap_or(room.layers);
        (sharing, plan(sharing))
    }

    fn plan(&self, room: &Room, trained: TrainedSizes) -> MemoryPlan {
        let [values, copies] =
            [trained.values, trained.copies].map(|count| (count * size_of::<f32>()) as u64);
        MemoryPlan {
            weights: self.weights,
            parameters: values + copies,
            optimiser: values * (1 + self.more_gradients as u64) + self.moments.unwrap_or(2 * values),
            activations: room.layer_bytes(),
            workspace: room.single_bytes() + self.threads as u64 * room.scratch_bytes(),
            recomputed: room.recomputed(),
            layers: room.layers,
            budget: self.memory,
        }
    }
}

impl CpuEngine {
    /// Plans the training of an adapter, or of all weights, on batches of up to `tokens` tokens and `targets` targets.
    ///
    /// Nothing is recomputed unless the budget of [`CpuOptions::memory`] demands it, and then as few layers
    /// as will do. The engine keeps to the plan of its largest batch; where even recomputing all that can be does
    /// not fit, [`MemoryPlan::fits`] says so.
    pub fn plan<'a>(&self, tokens: usize, targets: usize, trained: impl Into<Parameters<'a>>) -> MemoryPlan {
        let trained = trained.into();
        self.planner().within_budget(&self.room(tokens, targets, Some(trained)), self.sizes(trained)).1
    }

    pub(super) fn planner(&self) -> Planner {
        Planner {
            weights: self.weights.bytes(),
            threads: self.pool.current_num_threads(),
            memory: self.memory,
            moments: self.moments,
            more_gradients: self.more_gradients,
        }
    }

    pub(super) fn sizes(&self, trained: Parameters<'_>) -> TrainedSizes {
        match trained {
            Parameters::Adapter(lora) => lora.into(),
            Parameters::Weights(_) => TrainedSizes::whole(&self.layout, self.shape),
        }
    }

    /// The sizes that a batch asks for, in a pass that keeps nothing.
    pub(super) fn room(&self, tokens: usize, targets: usize, beside: Option<Parameters<'_>>) -> Room {
        let layers = self.config.num_hidden_layers;
        let sizes = beside.map(|trained| self.sizes(trained));
        Room::new(self.shape, layers, [tokens, targets], sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Dropout, Engine};
    use collimate_kernels::{Dtype, Quantisation};
    use collimate_model::{FullWeights, Model, Trainable};
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

    /// A model of which a plan is made from its description, and from its files, and what either says of it loaded.
    fn assert_planned(model: &Model, options: CpuOptions, trained: &Trainable, described: Described<'_>) {
        let sizes = match trained {
            Trainable::Adapter(lora) => TrainedSizes::from(&Lora { values: Vec::new(), ..Lora::clone(lora) }),
            Trainable::Weights(_) => TrainedSizes::weights(model.config()),
        };
        assert_eq!(sizes.values, trained.values().len());
        let engine = CpuEngine::load(model, options, |_| {}).unwrap();
        let plan = MemoryPlan::of(described, options, [250, 191], sizes);
        assert_eq!(plan, engine.plan(250, 191, trained), "{}, {options:?}", model.path().display());
    }

    #[test]
    fn a_plan_needs_no_weights() {
        for name in ["llama", "qwen2_untied_yarn", "llama_untied_llama3rope", "qwen3", "gemma2"] {
            let (model, all) = open(name);
            for dtype in Dtype::TRAINABLE {
                let options = CpuOptions { training: true, dtype, threads: Some(2), ..CpuOptions::default() };
                for trained in &all {
                    assert_planned(&model, options, trained, model.config().into());
                    assert_planned(&model, options, trained, (&model).into());
                }
                for (quantise, double_quant) in [
                    (Quantisation::Nf4, false),
                    (Quantisation::Nf4, true),
                    (Quantisation::Fp4, true),
                    (Quantisation::Int8, false),
                ] {
                    let options = CpuOptions { quantise, double_quant, ..options };
                    assert_planned(&model, options, &all[0], model.config().into());
                }
            }
            let options = CpuOptions { dtype: Dtype::Int8, ..CpuOptions::default() };
            let loaded = CpuEngine::load(&model, options, |_| {}).unwrap().weights.bytes();
            assert_eq!(Described::from(model.config()).weight_bytes(options), loaded, "{name} to write with");
        }
    }

    #[test]
    fn smaller_moments_leave_room_for_more() {
        let (model, [_, weights]) = open("llama");
        let options = CpuOptions { training: true, threads: Some(2), ..CpuOptions::default() };
        let of = |moments| {
            let options = CpuOptions { moments, ..options };
            CpuEngine::load(&model, options, |_| {}).unwrap().plan(250, 191, &weights)
        };
        let (full, none) = (of(None), of(Some(0)));
        assert_eq!(full.optimiser, 3 * none.optimiser);
        assert_eq!(full.total() - none.total(), 2 * none.optimiser);
        let options = CpuOptions { moments: Some(0), more_gradients: 3, ..options };
        let summed = CpuEngine::load(&model, options, |_| {}).unwrap().plan(250, 191, &weights);
        assert_eq!(summed.total() - none.total(), 3 * none.optimiser);
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
