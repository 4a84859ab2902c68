//! The engine on the CPU: plain slices and SIMD, in f32 or with the products of frozen weights in bf16 or integers.
//!
//! Two parallel regions a layer: attention; and blocks of rows that finish one layer and start the next. Sums
//! over blocks run in the order of blocks, and a block's size depends on the batch alone, so that results do not
//! depend on the number of threads.

mod adapter;
mod backward;
mod checks;
mod decoder;
mod described;
mod dora;
mod forward;
mod full;
mod linear;
mod plan;
mod readout;
mod rotary;
mod shape;
mod sublayers;
mod trained;
mod weights;
mod workspace;

pub use decoder::{Decoder, Sequence, Span};
pub use described::Described;
pub use plan::{MemoryPlan, TrainedSizes};

use crate::check::{check_adapter, check_heads, check_lengths, check_tokens};
use crate::{Batch, Dropout, Engine, Error, Result, Scores};
use adapter::Prepared;
use checks::check_dtype;
use collimate_kernels::attention::Plan;
use collimate_kernels::head::OUTPUTS;
use collimate_kernels::parallel::RowBlocks;
use collimate_kernels::{Dtype, Quantisation};
use collimate_model::{DecoderConfig, Lora, Model, Parameters, WeightLayout};
use forward::{Pass, Sharing};
use rotary::RotaryTables;
use shape::Shape;
use std::ops::Range;
use trained::Trained;
use weights::Weights;
use workspace::{Room, Workspace};

/// The rows beside which an adapter stands that stands beside all.
const ALL_ROWS: Range<usize> = 0..usize::MAX;

/// How an engine is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuOptions {
    /// Threads to work with; none is one a core.
    pub threads: Option<usize>,
    /// Whether the weights are packed for a backward pass too, which doubles their memory.
    pub training: bool,
    /// What the model's weights are held and multiplied in; [`CpuEngine::arithmetic`] says what came of it. Whatever it
    /// is, sums, the residual stream, attention and adapters are in f32.
    pub dtype: Dtype,
    /// How the matrices of the layers are held: quantised, they are held once for both directions, and multiplied in
    /// `dtype`, which must then be one of [`Dtype::TRAINABLE`].
    pub quantise: Quantisation,
    /// Whether the largest magnitudes of blocks of 4 bits are quantised in their turn.
    pub double_quant: bool,
    /// Bytes that training may take, weights and all; layers are recomputed in the backward pass to keep to it.
    pub memory: Option<u64>,
    /// Bytes of the optimiser's moments, which count towards the memory; none is two numbers of f32 a parameter.
    pub moments: Option<u64>,
    /// Vectors of gradients that are held beside the first, while those of several micro-batches are added up.
    pub more_gradients: usize,
}

/// A decoder on the CPU.
#[derive(Debug)]
pub struct CpuEngine {
    config: DecoderConfig,
    shape: Shape,
    layout: WeightLayout,
    weights: Weights,
    rotary: RotaryTables,
    pool: rayon::ThreadPool,
    training: bool,
    dtype: Dtype,
    quantise: Quantisation,
    double_quant: bool,
    memory: Option<u64>,
    moments: Option<u64>,
    more_gradients: usize,
    /// How many layers share states for the sake of memory, in the backward pass of the largest batch so far.
    sharing: usize,
    prepared: Prepared,
    space: Workspace,
    scores: Scores,
    /// The last forward pass, if that can be gone back through.
    kept: Option<Kept>,
}

/// What a forward pass was for.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Adapter(Option<Dropout>),
    Weights,
}

impl CpuEngine {
    /// Reads the model's weights and packs them; `progress` hears of each finished layer.
    pub fn load(model: &Model, options: CpuOptions, progress: impl FnMut(usize) + Send) -> Result<Self> {
        check_dtype(model, options)?;
        let threads = options.threads.unwrap_or(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
        let config = model.config().clone();
        let weights = pool.install(|| Weights::load(model, options, progress))?;
        Ok(Self {
            shape: Shape::new(&config),
            layout: WeightLayout::new(&config),
            rotary: RotaryTables::new(&config, 0),
            config,
            weights,
            pool,
            training: options.training,
            dtype: options.dtype.supported(),
            quantise: options.quantise,
            double_quant: options.double_quant,
            memory: options.memory,
            moments: options.moments,
            more_gradients: options.more_gradients,
            sharing: 0,
            prepared: Prepared::default(),
            space: Workspace::default(),
            scores: Scores::default(),
            kept: None,
        })
    }

    /// What the frozen weights are multiplied in: what was asked for where this machine can, else f32.
    pub fn arithmetic(&self) -> Dtype {
        self.dtype
    }

    /// What the bits of its results depend on beside the model: what the weights are multiplied in, and how those of the
    /// layers are quantised.
    pub fn described(&self) -> String {
        let twice = if self.double_quant { ", twice" } else { "" };
        match self.quantise {
            Quantisation::None => self.dtype.to_string(),
            kind @ (Quantisation::Nf4 | Quantisation::Fp4) => format!("{} by {kind}{twice}", self.dtype),
            kind => format!("{} by {kind}", self.dtype),
        }
    }

    /// Bytes that the matrices of the layers take, and the weights in them.
    pub fn layer_weights(&self) -> (u64, u64) {
        let matrices = self.layout.layers.iter().flat_map(|layer| {
            [&layer.qkv, &layer.output, &layer.gate_up, &layer.down].map(|place| place.weight.len() as u64)
        });
        (self.weights.linear_bytes(), matrices.sum())
    }

    /// Copies the batch into the workspace and makes room.
    fn prepare(&mut self, batch: &Batch, beside: Option<Parameters<'_>>, keep: bool) -> Result<()> {
        check_tokens(&self.config, batch)?;
        let mut adapter = None;
        match beside {
            Some(Parameters::Adapter(lora)) => {
                check_adapter(&self.config, lora)?;
                adapter = Some(lora);
            }
            Some(Parameters::Weights(weights)) => self.check_weights(weights)?,
            None => {}
        }
        check_heads(&self.config, adapter, batch)?;
        let space = &mut self.space;
        space.tokens.clone_from(&batch.tokens);
        space.positions.clear();
        for segment in &batch.segments {
            space.positions.extend((segment.position..segment.position + segment.len).map(|p| p as u32));
        }
        space.plan = Plan::new(&batch.segments, self.shape.heads.key_value);
        space.target_rows.clear();
        space.target_tokens.clear();
        space.target_rows.extend(batch.targets.iter().map(|target| target.row));
        space.target_tokens.extend(batch.targets.iter().map(|target| target.token));
        space.sharpness = 1.0 / batch.temperature;
        space.readout_rows.clone_from(&batch.readouts);
        space.values.clear();
        space.values.resize(batch.readouts.len(), 0.0);
        self.make_room(beside, keep);
        Ok(())
    }

    /// Makes room for the tokens and targets in the workspace.
    fn make_room(&mut self, beside: Option<Parameters<'_>>, keep: bool) {
        let positions = self.space.positions.iter().max().map_or(0, |&last| last as usize + 1);
        self.reach(positions);
        self.space.blocks = RowBlocks::new(self.space.tokens.len());
        let mut room = self.room(self.space.tokens.len(), self.space.target_rows.len(), beside);
        if let Some(trained) = beside.filter(|_| keep) {
            // Once shared, always shared: smaller batches do not take the memory back.
            self.sharing = self.sharing.max(self.planner().within_budget(&room, self.sizes(trained)).0);
            room = Room { keep, sharing: self.sharing, ..room };
        }
        self.space.ensure(&room);
    }

    /// Extends the rotary tables to `positions`, by doubling.
    fn reach(&mut self, positions: usize) {
        if positions > self.rotary.positions() {
            self.rotary = RotaryTables::new(&self.config, positions.next_power_of_two());
        }
    }

    /// A forward pass over the prepared batch; the scores end up in `self.scores`.
    fn run(&mut self, adapter: Option<(&Lora, Option<Dropout>)>, keep: bool) {
        let (shape, space, weights) = (self.shape, &mut self.space, &self.weights);
        let prepared = &mut self.prepared;
        let adapter = self
            .pool
            .install(|| adapter.map(|(lora, dropout)| prepared.prepare(lora, dropout, (shape, weights))));
        let adapters = adapter.map(|adapter| (ALL_ROWS, adapter));
        let (adapters, sharing) = (adapters.as_slice(), Sharing::Rows);
        let pass = Pass { shape, weights: &self.weights, rotary: &self.rotary, adapters, sharing };
        self.pool.install(|| {
            pass.layers(space, |space, layer| pass.attend(space, layer));
            pass.head(space, keep);
            pass.values(space);
        });
        self.scores.fill(&space.scores[..space.target_rows.len() * OUTPUTS]);
        self.scores.values.clone_from(&space.values);
    }
}

impl Engine for CpuEngine {
    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn score(&mut self, batch: &Batch, adapter: Option<&Lora>) -> Result<&Scores> {
        self.kept = None;
        self.prepare(batch, adapter.map(Parameters::Adapter), false)?;
        self.run(adapter.map(|lora| (lora, None)), false);
        Ok(&self.scores)
    }

    fn forward<'a>(
        &mut self,
        batch: &Batch,
        trained: impl Into<Parameters<'a>>,
        dropout: Option<Dropout>,
    ) -> Result<&Scores> {
        self.kept = None;
        if !self.training {
            return Err(Error::NothingKept);
        }
        let trained = trained.into();
        self.prepare(batch, Some(trained), true)?;
        let kept = match trained {
            Parameters::Adapter(adapter) => {
                self.run(Some((adapter, dropout)), true);
                Kept::Adapter(dropout)
            }
            Parameters::Weights(_) => {
                self.run(None, true);
                Kept::Weights
            }
        };
        self.kept = Some(kept);
        Ok(&self.scores)
    }

    fn backward<'a>(
        &mut self,
        trained: impl Into<Parameters<'a>>,
        gradients: &[f32],
        into: &mut [f32],
    ) -> Result<()> {
        let kept = self.kept.take().ok_or(Error::NothingKept)?;
        let (trained, parameters) = match (trained.into(), kept) {
            (Parameters::Adapter(adapter), Kept::Adapter(dropout)) => {
                let prepared = self.prepared.again(adapter, dropout, (self.shape, &self.weights));
                (Trained::Adapter(prepared), adapter.values.len())
            }
            (Parameters::Weights(weights), Kept::Weights) => {
                (Trained::Weights(&weights.layout), weights.values.len())
            }
            _ => return Err(Error::NothingKept),
        };
        let wanted = self.space.target_rows.len() + self.space.readout_rows.len();
        check_lengths(wanted, parameters, gradients, into)?;
        let (space, shape) = (&mut self.space, self.shape);
        let adapters = trained.adapter().map(|adapter| (ALL_ROWS, adapter));
        let (adapters, sharing) = (adapters.as_slice(), Sharing::Rows);
        let pass = Pass { shape, weights: &self.weights, rotary: &self.rotary, adapters, sharing };
        self.pool.install(|| pass.backward(trained, space, gradients, into));
        Ok(())
    }

    fn refresh<'a>(&mut self, trained: impl Into<Parameters<'a>>) -> Result<()> {
        let Parameters::Weights(weights) = trained.into() else { return Ok(()) };
        self.check_weights(weights)?;
        self.kept = None;
        self.pool.install(|| self.weights.refresh(weights));
        Ok(())
    }
}

impl Scores {
    /// Takes over rows of (log-prob, entropy, collision, correct).
    fn fill(&mut self, rows: &[f32]) {
        self.log_probs.clear();
        self.entropies.clear();
        self.collisions.clear();
        self.correct.clear();
        for row in rows.as_chunks::<OUTPUTS>().0 {
            self.log_probs.push(row[0]);
            self.entropies.push(row[1]);
            self.collisions.push(row[2]);
            self.correct.push(row[3] != 0.0);
        }
    }
}
