//! The right factor: columns of integers side by side in panels, so that a tile reads them in one stream.

use super::PANEL;
use super::left::LARGEST;
use crate::aligned::Aligned;
use crate::quant::{Blocks, Form, Groups, WrongLength, largest, unpack};
use rayon::prelude::*;
use std::convert::Infallible;

/// What floats are rounded to. One scale a column would take an eighth less memory, but cost half as much again in
/// perplexity.
const ROUNDED: Form = Form { bits: 8, group: 32, zero: 128, minima: false };

/// A right factor B[k, n] in panels of 32 columns.
#[derive(Debug, Clone)]
pub(in super::super) struct Integers {
    layout: Layout,
    /// Panel after panel, line after line of 32 words. A word holds four integers of a column, neighbours in k, from
    /// the low byte up; or eight of 4 bits, the first four in the low halves of its bytes.
    words: Aligned<u32>,
    /// Panel after panel, for each scale 32 of them, and then 32 minima where the form has them.
    scales: Aligned,
}

/// What all panels of a factor are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub form: Form,
    /// Groups of a column.
    pub groups: usize,
}

impl Layout {
    /// That of floats which are rounded, k to a column.
    fn rounded(k: usize) -> Self {
        Self { form: ROUNDED, groups: k.div_ceil(ROUNDED.group) }
    }

    /// Words and scales of n columns.
    fn lengths(self, n: usize) -> [usize; 2] {
        [self.words(), self.scales()].map(|len| n.div_ceil(PANEL) * len)
    }

    /// Words of a panel.
    fn words(self) -> usize {
        self.groups * self.form.group / (32 / usize::from(self.form.bits)) * PANEL
    }

    /// Scales and minima of a group.
    fn scales_a_group(self) -> usize {
        (1 + usize::from(self.form.minima)) * PANEL
    }

    /// Scales and minima of a panel.
    fn scales(self) -> usize {
        self.groups * self.scales_a_group()
    }
}

impl Integers {
    fn new(layout: Layout, n: usize) -> Self {
        let [words, scales] = layout.lengths(n);
        Self { layout, words: Aligned::zeros(words), scales: Aligned::zeros(scales) }
    }

    /// Room for B[k, n] that is to be rounded.
    pub fn zeros([k, n]: [usize; 2]) -> Self {
        Self::new(Layout::rounded(k), n)
    }

    /// Bytes that [`Integers::zeros`] takes.
    pub fn planned_bytes([k, n]: [usize; 2]) -> usize {
        Layout::rounded(k).lengths(n).iter().sum::<usize>() * size_of::<u32>()
    }

    /// Rounds B[k, n]; `read(row, column, values)` writes what stands in a row from a column on.
    pub fn round(&mut self, [k, n]: [usize; 2], read: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let Ok(()) = self.fill(|panel, mut lanes| -> Result<(), Infallible> {
            let (first, width) = (panel * PANEL, (n - panel * PANEL).min(PANEL));
            let (mut values, mut integers) = (vec![0.0; k * width], vec![0; k]);
            for (row, values) in values.chunks_exact_mut(width).enumerate() {
                read(row, first, values);
            }
            for lane in 0..width {
                let groups = values.chunks(width * ROUNDED.group).zip(integers.chunks_mut(ROUNDED.group));
                let scales: Vec<_> = groups
                    .map(|(values, integers)| [round(values.iter().skip(lane).step_by(width), integers), 0.0])
                    .collect();
                lanes.write(lane, ROUNDED, &integers, &scales);
            }
            Ok(())
        });
    }

    /// Takes B[k, n] = Wᵀ, with the matrices of `parts` one below the other as W [n, k].
    ///
    /// Errors: blocks that do not make whole rows.
    pub fn from_blocks(parts: &[Blocks<'_>], k: usize) -> Result<(Self, usize), WrongLength> {
        let mut rows = Vec::new();
        for &Blocks { kind, bytes } in parts {
            let row = k / kind.block_len() * kind.block_bytes();
            if !k.is_multiple_of(kind.block_len()) || row == 0 || !bytes.len().is_multiple_of(row) {
                return Err(WrongLength { kind, bytes: bytes.len(), weights: k });
            }
            rows.extend(bytes.chunks_exact(row).map(|bytes| Blocks { kind, bytes }));
        }
        let form = parts.iter().map(|part| part.kind.form()).reduce(Form::join).unwrap_or(ROUNDED);
        let layout = Layout { form, groups: k / form.group };
        let mut packed = Self::new(layout, rows.len());
        packed.fill(|panel, mut lanes| {
            let (mut integers, mut scales) = (vec![0; k], vec![[0.0; 2]; k / 16]);
            for (lane, &row) in rows[panel * PANEL..].iter().take(PANEL).enumerate() {
                let form = row.kind.form();
                let scales = &mut scales[..k / form.group];
                unpack(row, Groups { integers: &mut integers, scales })?;
                lanes.write(lane, form, &integers, scales);
            }
            Ok(())
        })?;
        Ok((packed, rows.len()))
    }

    /// Calls `write` with every panel's number and its lanes.
    fn fill<E: Send>(&mut self, write: impl Fn(usize, Lanes<'_>) -> Result<(), E> + Sync) -> Result<(), E> {
        let layout = self.layout;
        if layout.groups == 0 {
            return Ok(());
        }
        let words = self.words.par_chunks_mut(layout.words());
        let panels = words.zip(self.scales.par_chunks_mut(layout.scales()));
        panels.enumerate().try_for_each(|(panel, (words, scales))| {
            words.fill(0);
            write(panel, Lanes { layout, words, scales })
        })
    }

    /// What tiles need of panel `index`.
    pub(super) fn panel(&self, index: usize) -> Panel<'_> {
        let layout = self.layout;
        Panel {
            layout,
            words: &self.words[index * layout.words()..][..layout.words()],
            scales: &self.scales[index * layout.scales()..][..layout.scales()],
        }
    }

    /// How its integers are made.
    pub fn form(&self) -> Form {
        self.layout.form
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words) + size_of_val(&*self.scales)
    }

    /// Copies a column of B into `out`, of length k.
    pub fn read_column(&self, column: usize, out: &mut [f32]) {
        let (panel, lane, form) = (self.panel(column / PANEL), column % PANEL, self.layout.form);
        let mask = u8::MAX >> (8 - form.bits);
        for (group, out) in out.chunks_mut(form.group).enumerate() {
            let scales = panel.scales(group);
            let scales = [scales[lane], if form.minima { scales[PANEL + lane] } else { 0.0 }];
            for (k, out) in out.iter_mut().enumerate() {
                let (line, shift) = place(form, group * form.group + k);
                let integer = (panel.words[line * PANEL + lane] >> shift) as u8 & mask;
                *out = form.weight(integer, scales);
            }
        }
    }
}

/// One panel of a right factor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    pub layout: Layout,
    /// Line after line.
    pub words: &'a [u32],
    scales: &'a [f32],
}

impl<'a> Panel<'a> {
    /// The scales of a group's columns, and their minima if the form has them.
    #[inline(always)]
    pub fn scales(&self, group: usize) -> &'a [f32] {
        let len = self.layout.scales_a_group();
        &self.scales[group * len..][..len]
    }
}

/// The columns of a panel that is filled.
struct Lanes<'a> {
    layout: Layout,
    words: &'a mut [u32],
    scales: &'a mut [f32],
}

impl Lanes<'_> {
    /// Writes a column whose integers and scales are of a form that the panel's was joined from.
    fn write(&mut self, lane: usize, from: Form, integers: &[u8], scales: &[[f32; 2]]) {
        let (form, shift) = (self.layout.form, from.shift(self.layout.form));
        for (k, integer) in integers.iter().enumerate() {
            let (line, place) = place(form, k);
            self.words[line * PANEL + lane] |= u32::from(integer + shift) << place;
        }
        let groups_a_scale = from.group / form.group;
        for (index, row) in self.scales.chunks_exact_mut(self.layout.scales_a_group()).enumerate() {
            let scales = scales[index / groups_a_scale];
            row[lane] = scales[0];
            if form.minima {
                row[PANEL + lane] = from.minimum(scales);
            }
        }
    }
}

/// Rounds a group to the nearest; returns its scale.
fn round<'a>(values: impl Iterator<Item = &'a f32> + Clone, integers: &mut [u8]) -> f32 {
    let largest = largest(values.clone().copied());
    let inverse = if largest == 0.0 { 0.0 } else { LARGEST / largest };
    for (integer, x) in integers.iter_mut().zip(values) {
        *integer = ((x * inverse).round_ties_even() + f32::from(ROUNDED.zero)) as u8;
    }
    largest / LARGEST
}

/// The line that holds integer `k` of a column, and how far up in its word.
#[inline(always)]
pub(super) fn place(form: Form, k: usize) -> (usize, usize) {
    if form.bits == 4 { (k / 8, k % 4 * 8 + k / 4 % 2 * 4) } else { (k / 4, k % 4 * 8) }
}
