//! Between llama.cpp's tensor names and Hugging Face's.

use crate::conventions::SublayerNorms;
use crate::family::Description;

/// Names of parts of a decoder layer; each stands before `.weight` or `.bias`.
const LAYER_PARTS: [(&str, &str); 12] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_qkv", "self_attn.qkv_proj"),
];

/// The same where norms stand around the sublayers, in place of those above.
const AROUND: [(&str, &str); 3] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// The same where gate and up are one matrix, in place of those above.
const FUSED: [(&str, &str); 1] = [("ffn_up", "mlp.gate_up_proj")];

/// Names outside of the layers.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The canonical name, if the tensor is a weight of a decoder.
pub(super) fn canonical(name: &str, family: &Description) -> Option<String> {
    if let Some((_, canonical)) = WHOLE.into_iter().find(|(known, _)| *known == name) {
        return Some(canonical.to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (part, kind) = rest.rsplit_once('.')?;
    if kind != "weight" && kind != "bias" {
        return None;
    }
    let (_, canonical) = layer_parts(family).find(|(known, _)| *known == part)?;
    Some(format!("model.layers.{layer}.{canonical}.{kind}"))
}

/// The name in a file of the weight of this canonical name, if files of the family have such a weight.
pub(super) fn stored(canonical: &str, family: &Description) -> Option<String> {
    if let Some((stored, _)) = WHOLE.into_iter().find(|(_, known)| *known == canonical) {
        return Some(stored.to_owned());
    }
    let (layer, rest) = canonical.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let (stored, _) = layer_parts(family).find(|(_, known)| *known == part)?;
    Some(format!("blk.{layer}.{stored}.{kind}"))
}

/// The names that mean something in files of the family, the first of equals.
fn layer_parts(family: &Description) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let around = AROUND.iter().filter(|_| family.sublayer_norms == SublayerNorms::Around);
    let fused = FUSED.iter().filter(|_| !family.fused.is_empty());
    around.chain(fused).chain(&LAYER_PARTS)
}

#[cfg(test)]
mod tests {
    use super::{canonical, stored};
    use crate::family::{self, Family};

    #[test]
    fn names_are_canonical() {
        let canonical = |name| canonical(name, family::of(Family::Llama));
        let of = |name| canonical(name).unwrap_or_default();
        assert_eq!(of("token_embd.weight"), "model.embed_tokens.weight");
        assert_eq!(of("blk.0.attn_output.weight"), "model.layers.0.self_attn.o_proj.weight");
        assert_eq!(of("blk.17.attn_k.bias"), "model.layers.17.self_attn.k_proj.bias");
        assert_eq!(of("blk.3.ffn_norm.weight"), "model.layers.3.post_attention_layernorm.weight");
        assert_eq!(canonical("blk.0.ffn_gate_inp.weight"), None);
        assert_eq!(canonical("blk.x.attn_k.weight"), None);
        assert_eq!(canonical("rope_freqs.weight"), None);
        for name in ["token_embd.weight", "blk.17.attn_k.bias", "output.weight"] {
            assert_eq!(stored(&of(name), family::of(Family::Llama)).as_deref(), Some(name));
        }
        assert_eq!(stored("model.layers.0.mlp.gate.weight", family::of(Family::Llama)), None);
    }

    #[test]
    fn a_name_means_what_the_family_takes_it_for() {
        let of = |name, family| canonical(name, family::of(family)).unwrap_or_default();
        let norm = "blk.1.ffn_norm.weight";
        assert_eq!(of(norm, Family::Gemma2), "model.layers.1.pre_feedforward_layernorm.weight");
        assert_eq!(of(norm, Family::Qwen3), "model.layers.1.post_attention_layernorm.weight");
        assert_eq!(of("blk.1.ffn_up.weight", Family::Phi3), "model.layers.1.mlp.gate_up_proj.weight");
        assert_eq!(of("blk.1.ffn_up.weight", Family::Gemma3), "model.layers.1.mlp.up_proj.weight");
    }
}
