//! Folders that bitsandbytes quantised, sound and broken.

use crate::common;
use std::path::Path;

use collimate_kernels::quant::{Absmax, FourBit, Packing};
use collimate_model::{Model, SaveOptions, StoredCodes};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

const WAYS: [&str; 3] = ["nf4", "fp4", "int8"];

const WEIGHT: &str = "model.layers.0.self_attn.q_proj.weight";

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn weights_read_as_bitsandbytes_dequantises_them() {
    for way in WAYS {
        let folder = common::fixture("quantised").join(way);
        let model = Model::open(&folder).unwrap();
        let expected = std::fs::read(folder.join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&expected).unwrap();
        assert_eq!(expected.len(), 7);
        let mut out = Vec::new();
        for (name, tensor) in expected.tensors() {
            let expected = floats(tensor.data());
            let shape = model.read(&name, &mut out).unwrap();
            assert_eq!(out.len(), shape.iter().product::<usize>());
            assert_eq!(out[..expected.len()], expected, "{way}, {name}");
            let codes = model.codes(&name).unwrap();
            match (way, codes) {
                ("nf4", Some(StoredCodes::Nibbles(nibbles))) => {
                    assert!(nibbles.kind == FourBit::Nf4 && matches!(nibbles.absmax, Absmax::Nested(_)));
                }
                ("fp4", Some(StoredCodes::Nibbles(nibbles))) => {
                    assert!(nibbles.kind == FourBit::Fp4 && matches!(nibbles.absmax, Absmax::Plain(_)));
                }
                ("int8", Some(StoredCodes::Rows(rows))) => assert_eq!(rows.scales.len(), shape[0]),
                (way, codes) => panic!("{way}: {codes:?}"),
            }
        }
        assert_eq!(model.codes("model.norm.weight").unwrap(), None);
    }
}

#[test]
fn what_is_saved_is_no_longer_quantised() {
    let model = Model::open(&common::fixture("quantised/nf4")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), SaveOptions::default()).unwrap();
    let saved = Model::open(folder.path()).unwrap();
    assert_eq!(saved.codes(WEIGHT).unwrap(), None);
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert!(!config.contains("quantization_config"), "{config}");
}

/// A copy of a folder in which `change` is made of a tensor's type, shape and bytes, or the tensor taken away.
fn changed(way: &str, tensor: &str, change: impl Fn(TensorView<'_>) -> Option<Vec<u8>>) -> tempfile::TempDir {
    let from = common::fixture("quantised").join(way);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut kept = Vec::new();
    for (name, view) in file.tensors() {
        let (dtype, shape) = (view.dtype(), view.shape().to_vec());
        if name != tensor {
            kept.push((name, dtype, shape, view.data().to_vec()));
        } else if let Some(bytes) = change(view) {
            let size = dtype.bitsize() / 8;
            kept.push((name, dtype, vec![bytes.len() / size], bytes));
        }
    }
    let views = kept.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

/// What is said of such a folder, when it is opened or the weight read.
fn refusal(folder: &Path) -> String {
    let model = match Model::open(folder) {
        Err(error) => return error.to_string(),
        Ok(model) => model,
    };
    model.read(WEIGHT, &mut Vec::new()).unwrap_err().to_string()
}

#[test]
fn parts_that_do_not_belong_together_are_errors() {
    let state = format!("{WEIGHT}.quant_state.bitsandbytes__nf4");
    let said = |text: &'static str| move |_: TensorView<'_>| Some(text.as_bytes().to_vec());
    let shorter = |view: TensorView<'_>| Some(view.data()[4..].to_vec());
    let part = |part: &str| format!("{WEIGHT}.{part}");
    let huge = r#"{"quant_type": "nf4", "blocksize": 64, "shape": [4294967296, 4294967296]}"#;
    let block = r#"{"quant_type": "nf4", "blocksize": 0, "shape": [64, 64]}"#;
    for (folder, expected) in [
        (changed("nf4", &state, said("{")), "EOF"),
        (changed("nf4", &state, said(huge)), "is not that of its bytes"),
        (changed("nf4", &state, said(block)), "of the type U8"),
        (changed("fp4", &state.replace("nf4", "fp4"), said(block)), "it describes the kind nf4"),
        (changed("nf4", WEIGHT, shorter), "is not that of its bytes"),
        (changed("nf4", &part("absmax"), shorter), "do not belong together"),
        (changed("nf4", &part("nested_absmax"), |_| Some(Vec::new())), "do not belong together"),
        (changed("nf4", &part("quant_map"), shorter), "its quant_map is not that of its kind"),
        (changed("nf4", &part("nested_quant_map"), |_| None), "is missing"),
        (changed("int8", "model.layers.0.self_attn.q_proj.SCB", shorter), "has 63 scales for 64 rows"),
        (changed("int8", WEIGHT, |_| None), "belongs to no matrix"),
    ] {
        let found = refusal(folder.path());
        assert!(found.contains(expected), "{found}, not {expected}");
    }
}

/// A copy of a tiny model with other names of its tensors, and the named one in rows of 8 bits.
fn in_rows(model: &str, rename: impl Fn(&str) -> String, weight: &str) -> tempfile::TempDir {
    let from = common::fixture("../../../../fixtures/tiny").join(model);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let (name, shape) = (rename(&name), view.shape().to_vec());
        if name != weight {
            tensors.push((name, view.dtype(), shape, view.data().to_vec()));
            continue;
        }
        let codes = (0..shape.iter().product::<usize>()).map(|index| (index % 251) as u8).collect();
        let scales = (0..shape[0]).flat_map(|row| (row as f32 + 1.0).to_le_bytes()).collect();
        tensors.push((name.replace("weight", "SCB"), Dtype::F32, vec![shape[0]], scales));
        tensors.push((name, Dtype::I8, shape, codes));
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

#[test]
fn codes_are_found_under_other_names() {
    let nested = |name: &str| format!("language_model.{name}");
    let folder = in_rows("gemma3", nested, &nested(WEIGHT));
    let model = Model::open(folder.path()).unwrap();
    assert!(matches!(model.codes(WEIGHT).unwrap(), Some(StoredCodes::Rows(_))));
    assert_eq!(model.packing(WEIGHT), Some(Packing::Rows));
}

#[test]
fn a_part_of_a_fused_matrix_is_read_and_counted() {
    let folder = in_rows("phi3", str::to_owned, "model.layers.0.self_attn.qkv_proj.weight");
    let model = Model::open(folder.path()).unwrap();
    assert_eq!((model.codes(WEIGHT).unwrap(), model.packing(WEIGHT)), (None, None));
    let mut numbers = Vec::new();
    let shape = model.read(WEIGHT, &mut numbers).unwrap();
    assert_eq!(numbers.len(), shape[0] * shape[1]);
    let stored = model.stored_tensors();
    assert_eq!(stored.len(), model.config().weights().len());
    let part = stored.iter().find(|tensor| tensor.name == WEIGHT).unwrap();
    let bytes = Packing::Rows.bytes([shape[0], shape[1]]) as u64;
    assert_eq!((part.dtype, part.bytes), (Packing::Rows.name(), bytes));
}
