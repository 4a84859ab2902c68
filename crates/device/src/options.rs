//! Which device an engine works on, and what it holds there.

use candle_core::Device as Handle;
use collimate_engine::{Dtype, Error, Quantisation, Result};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// A device that tensors lie on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA device of this number, from 0; with the feature `cuda`.
    Cuda(usize),
    /// The Apple device of this number, from 0; with the feature `metal`.
    Metal(usize),
}

/// How an engine is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeviceOptions {
    /// Where it works.
    pub device: Device,
    /// What the model's matrices are held and multiplied in, one of [`Dtype::TRAINABLE`]. Whatever it is, the residual
    /// stream, norms, attention, probabilities, adapters and gradients are in f32.
    pub dtype: Dtype,
    /// How the matrices of the layers are held; quantised ones are refused so far.
    pub quantise: Quantisation,
}

impl Device {
    /// Opens the device. Errors: it is not there, or the program was built without it.
    pub(crate) fn open(self) -> Result<Handle> {
        match self {
            Self::Cpu => Ok(Handle::Cpu),
            Self::Cuda(number) => Handle::new_cuda(number).map_err(failed),
            Self::Metal(number) => Handle::new_metal(number).map_err(failed),
        }
    }
}

impl Display for Device {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
            Self::Metal(number) => write!(formatter, "metal:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    /// Reads PyTorch's names: `cpu`, `cuda`, `cuda:1`; and `metal` likewise.
    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("no device is called {text:?}; there are cpu, cuda, cuda:N, metal and metal:N");
        let (kind, number) = text.split_once(':').unwrap_or((text, "0"));
        let number = number.parse().map_err(|_| unknown())?;
        match kind {
            "cpu" if kind == text => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(number)),
            "metal" => Ok(Self::Metal(number)),
            _ => Err(unknown()),
        }
    }
}

impl DeviceOptions {
    /// Checks that weights can be held so.
    pub(crate) fn check(self) -> Result<()> {
        let Self { dtype, quantise, .. } = self;
        if quantise != Quantisation::None {
            return Err(Error::NotQuantised { quantise });
        }
        if Dtype::TRAINABLE.contains(&dtype) { Ok(()) } else { Err(Error::NotTrainable { dtype }) }
    }
}

/// What an engine says when candle fails.
pub(crate) fn failed(error: candle_core::Error) -> Error {
    Error::Device { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3), Device::Metal(0)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!(["cuda", "metal"].map(str::parse), [Ok(Device::Cuda(0)), Ok(Device::Metal(0))]);
        for wrong in ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }
}
