//! The backward pass, layer by layer from the top down to the lowest that is trained.

use crate::forward::{Judged, LayerState, Pass};
use crate::group::Group;
use crate::ops::attention::{self, Projected};
use crate::ops::gated::{gated, gated_backward};
use crate::ops::head;
use crate::ops::linear::{bias_gradient, weight_gradient};
use crate::ops::norm::{rms_norm_backward, rms_norm_weight_gradient};
use crate::ops::rotary::{Turn, rotate};
use crate::trained::{Gradients, Trained, linear_place};
use candle_core::{Result, Tensor};
use std::ops::Range;

/// A backward pass under way.
pub(crate) struct Backward<'a> {
    pub pass: Pass<'a>,
    pub trained: Trained<'a>,
    pub gradients: Gradients,
}

impl Backward<'_> {
    /// Goes back through the layers whose states are given, the lowest first, from the residual stream above them.
    /// `gradients` are those by each log-prob, then by each value, [targets + readouts]; none of a batch without either.
    pub fn run(
        &mut self,
        (states, top): (&mut Vec<LayerState>, &Tensor),
        judged: &Judged,
        gradients: Option<&Tensor>,
    ) -> Result<()> {
        let mut d_stream = top.zeros_like()?;
        if let Some(gradients) = gradients {
            d_stream = self.targets(top, judged, gradients, d_stream)?;
            d_stream = self.readouts(top, gradients, d_stream)?;
        }
        let Some(lowest) = self.trained.lowest() else { return Ok(()) };
        while let Some(state) = states.pop().filter(|_| states.len() >= lowest) {
            let below = states.len() > lowest || self.trained.embedding().is_some();
            match self.layer(states.len(), &state, d_stream, below)? {
                Some(d_input) => d_stream = d_input,
                None => return Ok(()),
            }
        }
        self.embedding(&d_stream)
    }

    /// Adds the targets' share of the gradient by the stream at the top.
    fn targets(
        &mut self,
        top: &Tensor,
        judged: &Judged,
        gradients: &Tensor,
        d_stream: Tensor,
    ) -> Result<Tensor> {
        let (Some((targets, scored)), Some(rows)) = (&judged.targets, &self.pass.batch.target_rows) else {
            return Ok(d_stream);
        };
        let gradients = gradients.narrow(0, 0, self.pass.batch.targets)?;
        let weight = self.pass.head_weight();
        self.gradients.add(self.trained.head(), || head::weight_gradient(targets, weight, &gradients))?;
        let Some(slopes) = &scored.slopes else { candle_core::bail!("no slopes were kept") };
        let d_normed = slopes.broadcast_mul(&gradients.unsqueeze(1)?)?;
        self.through_norm(top, rows, d_normed.affine(self.pass.batch.sharpness, 0.0)?, d_stream)
    }

    /// Adds the readouts' share.
    fn readouts(&mut self, top: &Tensor, gradients: &Tensor, d_stream: Tensor) -> Result<Tensor> {
        let (Some(rows), Some(score)) = (&self.pass.batch.readout_rows, self.pass.score_weight()) else {
            return Ok(d_stream);
        };
        let gradients = gradients.narrow(0, self.pass.batch.targets, self.pass.batch.readouts)?;
        let (by_value, pass) = (gradients.unsqueeze(1)?, self.pass);
        self.gradients.add(self.trained.score(), || {
            let hidden = pass.norm(&top.index_select(rows, 0)?, &pass.weights.ends.norm)?;
            weight_gradient(&hidden, &by_value)
        })?;
        self.through_norm(top, rows, by_value.broadcast_mul(score)?, d_stream)
    }

    /// Adds to the gradient by the stream that of some rows of it, from those by their last norm.
    fn through_norm(
        &mut self,
        top: &Tensor,
        rows: &Tensor,
        d_normed: Tensor,
        d_stream: Tensor,
    ) -> Result<Tensor> {
        let (norm, x) = (&self.pass.weights.ends.norm, top.index_select(rows, 0)?);
        let dx = self.norm(self.trained.norm(), (&x, norm), &d_normed)?;
        d_stream.index_add(rows, &dx, 0)
    }

    /// The gradient by the input of a norm, from that by what it gives; its weight's lies at `place`, if it is trained.
    fn norm(
        &mut self,
        place: Option<&Range<usize>>,
        (x, weight): (&Tensor, &Tensor),
        dy: &Tensor,
    ) -> Result<Tensor> {
        let epsilon = self.pass.epsilon();
        self.gradients.add(place, || rms_norm_weight_gradient(x, epsilon, dy))?;
        rms_norm_backward(x, weight, epsilon, dy)
    }

    /// Goes back through a group of modules: learns, and gives the gradient by their input `x` if that is wanted.
    fn linear(
        &mut self,
        (layer, group): (usize, Group),
        x: impl FnOnce() -> Result<Tensor>,
        dy: &Tensor,
        wanted: bool,
    ) -> Result<Option<Tensor>> {
        let linear = self.pass.weights.layers[layer].linear(group);
        let mut dx = if wanted { Some(linear.input_gradient(dy)?) } else { None };
        if let Some(places) = self.trained.layer(layer) {
            let place = linear_place(places, group);
            let bias = Some(&place.bias).filter(|bias| !bias.is_empty());
            let x = x()?;
            self.gradients.add(Some(&place.weight), || weight_gradient(&x, dy))?;
            self.gradients.add(bias, || bias_gradient(dy))?;
        } else if let Some(adapter) = self.pass.adapter.filter(|adapter| adapter.adapts(layer, group)) {
            let beside = self.pass.beside(layer, group)?;
            let gradients = linear.adapter_gradients(&beside, (&x()?, dy), &mut dx)?;
            self.gradients.add_slots((adapter, layer, group), gradients);
        }
        Ok(dx)
    }

    /// Whether any of a group of modules of a layer is trained.
    fn trains(&self, layer: usize, group: Group) -> bool {
        match self.trained {
            Trained::Weights(_) => true,
            Trained::Adapter(_) => self.pass.adapter.is_some_and(|adapter| adapter.adapts(layer, group)),
        }
    }

    /// Goes back through a layer; the gradient by the stream below it, if anything there is trained.
    fn layer(
        &mut self,
        index: usize,
        state: &LayerState,
        d_output: Tensor,
        below: bool,
    ) -> Result<Option<Tensor>> {
        let d_middle = self.mlp(index, state, d_output)?;
        let start = below || self.trains(index, Group::Qkv);
        if !start && !self.trains(index, Group::Output) {
            return Ok(None);
        }
        let Some(d_attended) = self.attention_output(index, state, &d_middle, start)? else {
            return Ok(None);
        };
        let layer = &self.pass.weights.layers[index];
        let d_attended = d_attended.reshape(state.attended.out.dims())?;
        let pieces = self.pass.batch.pieces(layer.window);
        let from = (&state.projected, &state.attended);
        let d_projected = attention::backward(layer.attention, pieces, from, &d_attended)?;
        let d_qkv = self.unproject(index, state, d_projected)?;
        let (pass, input) = (self.pass, &state.input);
        let normed = || pass.norm(input, &layer.attention_norm);
        let Some(d_normed) = self.linear((index, Group::Qkv), normed, &d_qkv, below)? else {
            return Ok(None);
        };
        let place = self.trained.layer(index).map(|places| &places.attention_norm);
        Ok(Some((d_middle + self.norm(place, (input, &layer.attention_norm), &d_normed)?)?))
    }

    /// Goes back through the MLP and the norms around it, from the stream above to that after attention.
    fn mlp(&mut self, index: usize, state: &LayerState, d_output: Tensor) -> Result<Tensor> {
        let (layer, places) = (&self.pass.weights.layers[index], self.trained.layer(index));
        let mut d_product = d_output.clone();
        if let (Some(norm), Some(x)) = (&layer.mlp_output_norm, &state.mlp_output) {
            let place = places.and_then(|places| places.mlp_output_norm.as_ref());
            d_product = self.norm(place, (x, norm), &d_product)?;
        }
        let (pass, activation) = (self.pass, self.pass.config.activation);
        let inner = || gated(activation, &state.gate_up);
        let Some(d_inner) = self.linear((index, Group::Down), inner, &d_product, true)? else {
            return Ok(d_output);
        };
        let d_gate_up = gated_backward(activation, &state.gate_up, &d_inner)?;
        let normed = || pass.norm(&state.middle, &layer.mlp_norm);
        let Some(d_normed) = self.linear((index, Group::GateUp), normed, &d_gate_up, true)? else {
            return Ok(d_output);
        };
        let place = places.map(|places| &places.mlp_norm);
        d_output + self.norm(place, (&state.middle, &layer.mlp_norm), &d_normed)?
    }

    /// Goes back through the output projection and the norm on what it gives; the gradient by what attention gives, if it is
    /// wanted.
    fn attention_output(
        &mut self,
        index: usize,
        state: &LayerState,
        d_middle: &Tensor,
        wanted: bool,
    ) -> Result<Option<Tensor>> {
        let layer = &self.pass.weights.layers[index];
        let mut d_product = d_middle.clone();
        if let (Some(norm), Some(x)) = (&layer.attention_output_norm, &state.attention_output) {
            let place = self.trained.layer(index).and_then(|places| places.attention_output_norm.as_ref());
            d_product = self.norm(place, (x, norm), &d_product)?;
        }
        let attended = || state.attended.out.flatten_from(1);
        self.linear((index, Group::Output), attended, &d_product, wanted)
    }

    /// Turns the gradients by queries and keys back, goes through the norms over their heads, and puts them side by side
    /// with those by values, [rows, queries | keys | values].
    fn unproject(&mut self, index: usize, state: &LayerState, from: Projected) -> Result<Tensor> {
        let Projected { mut queries, mut keys, values } = from;
        let layer = &self.pass.weights.layers[index];
        if let Some(angles) = self.pass.batch.angles.of(layer.rotary) {
            queries = rotate(&queries, angles, Turn::Backward)?;
            keys = rotate(&keys, angles, Turn::Backward)?;
        }
        if let (Some(norms), Some(unnormed)) = (&layer.head_norms, &state.unnormed) {
            let places = self.trained.layer(index).and_then(|places| places.head_norms.as_ref());
            let [by_queries, by_keys] = places.map_or([None; 2], |places| places.each_ref().map(Some));
            queries = self.norm(by_queries, (&unnormed[0], &norms[0]), &queries)?;
            keys = self.norm(by_keys, (&unnormed[1], &norms[1]), &keys)?;
        }
        Tensor::cat(&[queries.flatten_from(1)?, keys.flatten_from(1)?, values.flatten_from(1)?], 1)
    }

    /// The gradient of the embedding: that of the stream below all layers, token by token.
    fn embedding(&mut self, d_stream: &Tensor) -> Result<()> {
        let config = self.pass.config;
        let tokens = &self.pass.batch.tokens;
        self.gradients.add(self.trained.embedding(), || {
            let rows = d_stream.affine(f64::from(config.embedding_scale.unwrap_or(1.0)), 0.0)?;
            let shape = (config.vocab_size, config.hidden_size);
            Tensor::zeros(shape, rows.dtype(), rows.device())?.index_add(tokens, &rows, 0)
        })
    }
}
