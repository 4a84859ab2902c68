//! Named devices: what their makers publish of them.

use std::str::FromStr;

use serde::Serialize;

/// Share of the published peak that a training of this kind reaches: what well-kept trainers report for dense decoders on
/// such devices lies between 0.35 and 0.5.
pub const EFFICIENCY: f64 = 0.4;

/// Share of the published bandwidth that reading weights reaches.
pub const READING: f64 = 0.7;

/// A device by its published figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Device {
    /// What it is called here.
    pub name: &'static str,
    /// Its memory in bytes.
    pub memory: u64,
    /// Bytes a second from and to it.
    pub bandwidth: f64,
    /// Dense products in bf16 with sums in f32, in operations a second.
    pub bfloat16: f64,
    /// Products in f32, in operations a second.
    pub float32: f64,
    /// Where the figures stand.
    pub source: &'static str,
}

/// A gigabyte, as makers count.
const GB: u64 = 1_000_000_000;

/// All that are known.
const DEVICES: [Device; 5] = [
    Device {
        name: "h200",
        memory: 141 * GB,
        bandwidth: 4.8e12,
        bfloat16: 989e12,
        float32: 67e12,
        source: "NVIDIA H200 data sheet (SXM; half of the figure with sparsity)",
    },
    Device {
        name: "a100-80g",
        memory: 80 * GB,
        bandwidth: 2.039e12,
        bfloat16: 312e12,
        float32: 19.5e12,
        source: "NVIDIA A100 data sheet (80 GB, SXM)",
    },
    Device {
        name: "rtx4090",
        memory: 24 * GB,
        bandwidth: 1.008e12,
        bfloat16: 165.2e12,
        float32: 82.6e12,
        source: "NVIDIA Ada GPU architecture, appendix A (dense, sums in f32)",
    },
    Device {
        name: "m3-max",
        memory: 128 * GB,
        bandwidth: 4.0e11,
        bfloat16: 14.1e12,
        float32: 14.1e12,
        source: "Apple, M3 Max with 40 GPU cores (memory, bandwidth); peak: 40 cores × 128 lanes × 2 × 1.38 GHz",
    },
    Device {
        name: "epyc-9654",
        memory: 768 * GB,
        bandwidth: 460.8e9,
        bfloat16: 14.7e12,
        float32: 7.37e12,
        source: "AMD EPYC 9654 data sheet (12 channels of DDR5-4800, 64 GB each); peak: 96 cores × 2.4 GHz × 32 operations, \
                 in bf16 64",
    },
];

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || DEVICES.map(|device| device.name).join(", ");
        let found = DEVICES.into_iter().find(|device| device.name == text);
        found.ok_or_else(|| format!("no device of this name is known; there are {}", names()))
    }
}
