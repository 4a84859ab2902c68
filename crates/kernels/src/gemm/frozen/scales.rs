//! The scales of a frozen matrix, as a tile needs them.

use super::super::PANEL;
use crate::quant::Absmax;

/// What 64 codes are multiplied by, and what is then added to them.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(super) struct Lanes {
    pub scales: [f32; PANEL],
    pub minima: [f32; PANEL],
}

impl Lanes {
    pub const ZERO: Self = Self { scales: [0.0; PANEL], minima: [0.0; PANEL] };
}

/// One scale for every `group` weights, row after row without a break; where a row's end is none of a group, a group goes
/// on in the next row.
#[derive(Debug, Clone)]
pub(super) struct Scales {
    inputs: usize,
    group: usize,
    kept: Kept,
}

#[derive(Debug, Clone)]
enum Kept {
    Scales(Absmax),
    /// Scale and minimum.
    Minima(Vec<[f32; 2]>),
}

impl Scales {
    pub fn new(inputs: usize, group: usize, scales: Absmax) -> Self {
        Self { inputs, group, kept: Kept::Scales(scales) }
    }

    pub fn with_minima(inputs: usize, group: usize, groups: Vec<[f32; 2]>) -> Self {
        Self { inputs, group, kept: Kept::Minima(groups) }
    }

    pub fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Scales(scales) => scales.bytes(),
            Kept::Minima(groups) => size_of_val(&**groups),
        }
    }

    /// Columns from a multiple of this on share their scales, in every row; an even number. None where that is not so.
    pub fn run(&self) -> Option<usize> {
        (self.inputs.is_multiple_of(self.group) && self.group.is_multiple_of(2)).then_some(self.group)
    }

    #[inline]
    fn get(&self, group: usize) -> [f32; 2] {
        match &self.kept {
            Kept::Scales(scales) => [scales.get(group), 0.0],
            Kept::Minima(groups) => groups[group],
        }
    }

    /// Those of one column in 64 rows, zeros where there is none.
    pub fn column(&self, rows: std::ops::Range<usize>, column: usize, lanes: &mut Lanes) {
        *lanes = Lanes::ZERO;
        if column < self.inputs {
            let out = lanes.scales.iter_mut().zip(&mut lanes.minima);
            for (row, (scale, minimum)) in rows.zip(out) {
                [*scale, *minimum] = self.get((row * self.inputs + column) / self.group);
            }
        }
    }

    /// Those of one row in up to 64 columns, zeros where there is none.
    pub fn row(&self, row: usize, columns: std::ops::Range<usize>, lanes: &mut Lanes) {
        let mut column = columns.start;
        let width = columns.len();
        while column < columns.end {
            let at = row * self.inputs + column;
            let end = (column + self.group - at % self.group).min(columns.end);
            let [scale, minimum] = self.get(at / self.group);
            let part = column - columns.start..end - columns.start;
            lanes.scales[part.clone()].fill(scale);
            lanes.minima[part].fill(minimum);
            column = end;
        }
        lanes.scales[width..].fill(0.0);
        lanes.minima[width..].fill(0.0);
    }
}
