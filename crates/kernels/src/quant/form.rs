//! What all kinds of blocks have in common: unsigned integers in groups that share a scale.

/// Weights as integers: weight = scale · (integer - zero), or scale · integer + minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Bits that hold an integer: 4 or 8.
    pub bits: u8,
    /// Weights of a row that share a scale; a power of two, and at least 16.
    pub group: usize,
    /// The integer that stands for 0; itself 0 where there are minima.
    pub zero: u8,
    /// Whether every group has a minimum.
    pub minima: bool,
}

impl Form {
    /// The narrowest form that takes the weights of both without loss.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let minima = self.minima || other.minima;
        Self {
            bits: self.bits.max(other.bits),
            group: self.group.min(other.group),
            zero: if minima { 0 } else { self.zero.max(other.zero) },
            minima,
        }
    }

    /// What is added to an integer of this form that becomes one of a form that [`Form::join`] made of it.
    pub(crate) fn shift(self, joined: Self) -> u8 {
        if joined.minima { 0 } else { joined.zero - self.zero }
    }

    /// The minimum of a group of this form that becomes one of a form with minima.
    pub(crate) fn minimum(self, [scale, minimum]: [f32; 2]) -> f32 {
        if self.minima { minimum } else { scale * -f32::from(self.zero) }
    }

    /// The weight of an integer in a group of this form.
    #[inline(always)]
    pub(crate) fn weight(self, integer: u8, [scale, minimum]: [f32; 2]) -> f32 {
        let product = scale * (f32::from(integer) - f32::from(self.zero));
        if self.minima { product + minimum } else { product }
    }
}

/// The integers of a block, and scale and minimum of each of its groups.
#[derive(Debug)]
pub struct Groups<'a> {
    /// One a weight.
    pub integers: &'a mut [u8],
    /// One a group; the minimum means something only where [`Form::minima`] says so.
    pub scales: &'a mut [[f32; 2]],
}
