//! The engine: batches in, scores and gradients out, by the passes on tensors.

use crate::adapter::Adapter;
use crate::backward::Backward;
use crate::batch::{Packed, positions};
use crate::forward::{Judged, LayerState, Pass};
use crate::ops::head::OUTPUTS;
use crate::options::{DeviceOptions, failed};
use crate::rotary::RotaryTables;
use crate::trained::{Gradients, Trained};
use crate::weights::Weights;
use candle_core::{DType, Device as Handle, Result as Tensors, Tensor};
use collimate_engine::check::{check_adapter, check_heads, check_lengths, check_tokens, check_weights};
use collimate_engine::{Batch, Dropout, Dtype, Engine, Error, Result, Scores};
use collimate_model::{DecoderConfig, Lora, Model, Parameters, WeightLayout};

/// A decoder on candle's tensors.
#[derive(Debug)]
pub struct DeviceEngine {
    config: DecoderConfig,
    layout: WeightLayout,
    weights: Weights,
    rotary: RotaryTables,
    device: Handle,
    scores: Scores,
    /// The last forward pass, if that can be gone back through.
    kept: Option<Kept>,
}

/// What a forward pass leaves for the backward pass.
#[derive(Debug)]
struct Kept {
    /// None of a batch without tokens.
    passed: Option<Passed>,
    /// The adapter in training; none where weights are.
    adapter: Option<Adapter>,
    /// Numbers of targets and readouts together, and of the parameters in training.
    wanted: usize,
    parameters: usize,
}

/// A batch that was gone through.
#[derive(Debug)]
struct Passed {
    batch: Packed,
    states: Vec<LayerState>,
    /// The residual stream above all layers.
    top: Tensor,
    judged: Judged,
}

/// Whether states are kept for a backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    States,
}

impl DeviceEngine {
    /// Reads the model's weights and brings them to the device; `progress` hears of each finished layer.
    ///
    /// # Errors
    /// A device that is not there or is full; weights that cannot be read, or not be held as the options ask.
    pub fn load(model: &Model, options: DeviceOptions, progress: impl FnMut(usize)) -> Result<Self> {
        options.check()?;
        let device = options.device.open()?;
        let dtype = match options.dtype {
            Dtype::Bfloat16 => DType::BF16,
            _ => DType::F32,
        };
        let config = model.config().clone();
        let layout = WeightLayout::new(&config);
        let weights = Weights::load(model, &layout, (dtype, &device), progress)?;
        let rotary = RotaryTables::new(&config, 1, &device).map_err(failed)?;
        Ok(Self { config, layout, weights, rotary, device, scores: Scores::default(), kept: None })
    }

    /// Checks a batch with what stands beside it.
    fn check(&self, batch: &Batch, beside: Option<Parameters<'_>>) -> Result<()> {
        check_tokens(&self.config, batch)?;
        let mut adapter = None;
        match beside {
            Some(Parameters::Adapter(lora)) => {
                check_adapter(&self.config, lora)?;
                adapter = Some(lora);
            }
            Some(Parameters::Weights(weights)) => check_weights(&self.layout, weights)?,
            None => {}
        }
        check_heads(&self.config, adapter, batch)
    }

    /// Brings a batch to the device; the rotary tables grow, by doubling, as far as its positions reach.
    fn pack(&mut self, batch: &Batch) -> Tensors<Packed> {
        let reach = positions(batch).into_iter().max().map_or(0, |last| last as usize + 1);
        if reach > self.rotary.positions() {
            self.rotary = RotaryTables::new(&self.config, reach.next_power_of_two(), &self.device)?;
        }
        Packed::new(batch, &self.config, &self.rotary, &self.device)
    }

    /// A forward pass; the scores end up in `self.scores`.
    fn run(&mut self, batch: &Batch, adapter: Option<&Adapter>, keep: Keep) -> Tensors<Option<Passed>> {
        self.scores = Scores::default();
        if batch.tokens.is_empty() {
            return Ok(None);
        }
        let batch = self.pack(batch)?;
        let pass = Pass { config: &self.config, weights: &self.weights, adapter, batch: &batch };
        let (mut top, mut states) = (pass.embed()?, Vec::new());
        for index in 0..self.weights.layers.len() {
            let (output, state) = pass.layer(index, top)?;
            top = output;
            if keep == Keep::States {
                states.push(state);
            }
        }
        let judged = pass.judge(&top, keep == Keep::States)?;
        self.scores = read(&judged)?;
        Ok(Some(Passed { batch, states, top, judged }))
    }

    /// An adapter on the device.
    fn adapter(&self, lora: &Lora, dropout: Option<Dropout>) -> Tensors<Adapter> {
        Adapter::new(lora, dropout, (&self.weights, &self.config), &self.device)
    }

    /// Goes back through what was kept.
    fn back(&self, kept: Kept, trained: Trained<'_>, gradients: &[f32]) -> Tensors<Gradients> {
        let Some(Passed { batch, mut states, top, judged }) = kept.passed else {
            return Ok(Gradients::default());
        };
        let adapter = kept.adapter.as_ref();
        let pass = Pass { config: &self.config, weights: &self.weights, adapter, batch: &batch };
        let gradients = match gradients.len() {
            0 => None,
            len => Some(Tensor::from_slice(gradients, len, &self.device)?),
        };
        let mut backward = Backward { pass, trained, gradients: Gradients::default() };
        backward.run((&mut states, &top), &judged, gradients.as_ref())?;
        Ok(backward.gradients)
    }
}

impl Engine for DeviceEngine {
    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn score(&mut self, batch: &Batch, adapter: Option<&Lora>) -> Result<&Scores> {
        self.kept = None;
        self.check(batch, adapter.map(Parameters::Adapter))?;
        let adapter = adapter.map(|lora| self.adapter(lora, None)).transpose().map_err(failed)?;
        self.run(batch, adapter.as_ref(), Keep::Nothing).map_err(failed)?;
        Ok(&self.scores)
    }

    fn forward<'a>(
        &mut self,
        batch: &Batch,
        trained: impl Into<Parameters<'a>>,
        dropout: Option<Dropout>,
    ) -> Result<&Scores> {
        self.kept = None;
        let trained = trained.into();
        self.check(batch, Some(trained))?;
        let (adapter, parameters) = match trained {
            Parameters::Adapter(lora) => {
                (Some(self.adapter(lora, dropout).map_err(failed)?), lora.values.len())
            }
            Parameters::Weights(weights) => (None, weights.values.len()),
        };
        let passed = self.run(batch, adapter.as_ref(), Keep::States).map_err(failed)?;
        let wanted = batch.targets.len() + batch.readouts.len();
        self.kept = Some(Kept { passed, adapter, wanted, parameters });
        Ok(&self.scores)
    }

    fn backward<'a>(
        &mut self,
        trained: impl Into<Parameters<'a>>,
        gradients: &[f32],
        into: &mut [f32],
    ) -> Result<()> {
        let kept = self.kept.take().ok_or(Error::NothingKept)?;
        let trained = trained.into();
        let parameters = match (trained, &kept.adapter) {
            (Parameters::Adapter(lora), Some(_)) => lora.values.len(),
            (Parameters::Weights(weights), None) => weights.values.len(),
            _ => return Err(Error::NothingKept),
        };
        if parameters != kept.parameters {
            return Err(Error::NothingKept);
        }
        check_lengths(kept.wanted, parameters, gradients, into)?;
        let found = self.back(kept, trained.into(), gradients).map_err(failed)?;
        found.add_to(into).map_err(failed)
    }

    fn refresh<'a>(&mut self, trained: impl Into<Parameters<'a>>) -> Result<()> {
        let Parameters::Weights(weights) = trained.into() else { return Ok(()) };
        check_weights(&self.layout, weights)?;
        self.kept = None;
        self.weights.refresh(weights, &self.config)
    }
}

/// Reads what the heads say from the device.
fn read(judged: &Judged) -> Tensors<Scores> {
    let mut scores = Scores::default();
    if let Some((_, scored)) = &judged.targets {
        let rows: Vec<f32> = scored.scores.flatten_all()?.to_vec1()?;
        for row in rows.as_chunks::<OUTPUTS>().0 {
            scores.log_probs.push(row[0]);
            scores.entropies.push(row[1]);
            scores.collisions.push(row[2]);
            scores.correct.push(row[3] != 0.0);
        }
    }
    if let Some(values) = &judged.values {
        scores.values = values.flatten_all()?.to_vec1()?;
    }
    Ok(scores)
}
