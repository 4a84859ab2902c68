//! Undoes the row order that llama.cpp's converter gives to q and k projections of Llama models.
//!
//! Hugging Face rotates dimension `i` of a head with `i + width / 2`; llama.cpp rotates neighbours. The converter
//! (`LlamaModel.permute`) moves row `half · width / 2 + i` of a head to row `2 i + half`.

/// A matrix's rows as heads of even width.
pub(super) struct RotaryHeads {
    rows: usize,
    /// Rows in half a head.
    half: usize,
}

impl RotaryHeads {
    /// None where the rows do not fall into heads of even width.
    pub(super) fn new(rows: usize, heads: usize) -> Option<Self> {
        let sound = heads > 0 && rows.is_multiple_of(2 * heads);
        sound.then(|| Self { rows, half: rows / heads / 2 })
    }

    /// Puts the rows, numbers or bytes of whole blocks, back into Hugging Face's order.
    pub(super) fn restore<T: Copy + Default>(&self, matrix: &mut [T]) {
        let (half, columns) = (self.half, matrix.len() / self.rows);
        let mut stored = vec![T::default(); 2 * half * columns];
        for head in matrix.chunks_exact_mut(2 * half * columns) {
            stored.copy_from_slice(head);
            for (row, values) in head.chunks_exact_mut(columns).enumerate() {
                let from = 2 * (row % half) + row / half;
                values.copy_from_slice(&stored[from * columns..(from + 1) * columns]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RotaryHeads;

    #[test]
    fn neighbours_go_back_to_halves() {
        // Two heads of four rows of two columns; the first number of a row tells which row it was.
        let stored: Vec<f32> = [0, 2, 1, 3, 4, 6, 5, 7].iter().flat_map(|row| [*row as f32, -1.0]).collect();
        let expected: Vec<f32> = (0..8).flat_map(|row| [row as f32, -1.0]).collect();
        let mut matrix = stored.clone();
        RotaryHeads::new(8, 2).unwrap().restore(&mut matrix);
        assert_eq!(matrix, expected);
    }

    #[test]
    fn rows_that_make_no_heads_are_refused() {
        assert!(RotaryHeads::new(6, 2).is_none());
        assert!(RotaryHeads::new(6, 0).is_none());
    }
}
