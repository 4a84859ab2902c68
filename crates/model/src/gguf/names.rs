//! From llama.cpp's tensor names to Hugging Face's.

/// Names of parts of a decoder layer; each stands before `.weight` or `.bias`.
const LAYER_PARTS: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Names outside of the layers.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The canonical name, if the tensor is a weight of a decoder.
pub(super) fn canonical(name: &str) -> Option<String> {
    if let Some((_, canonical)) = WHOLE.into_iter().find(|(known, _)| *known == name) {
        return Some(canonical.to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (part, kind) = rest.rsplit_once('.')?;
    if kind != "weight" && kind != "bias" {
        return None;
    }
    let (_, canonical) = LAYER_PARTS.into_iter().find(|(known, _)| *known == part)?;
    Some(format!("model.layers.{layer}.{canonical}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn names_are_canonical() {
        let of = |name| canonical(name).unwrap_or_default();
        assert_eq!(of("token_embd.weight"), "model.embed_tokens.weight");
        assert_eq!(of("blk.0.attn_output.weight"), "model.layers.0.self_attn.o_proj.weight");
        assert_eq!(of("blk.17.attn_k.bias"), "model.layers.17.self_attn.k_proj.bias");
        assert_eq!(of("blk.3.ffn_norm.weight"), "model.layers.3.post_attention_layernorm.weight");
        assert_eq!(canonical("blk.0.ffn_gate_inp.weight"), None);
        assert_eq!(canonical("blk.x.attn_k.weight"), None);
        assert_eq!(canonical("rope_freqs.weight"), None);
    }
}
