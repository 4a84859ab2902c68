//! The row order that llama.cpp's converter gives to q and k projections of Llama models, undone and done.
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
        self.reorder(matrix, |row| 2 * (row % self.half) + row / self.half);
    }

    /// Puts the rows into the file's order: undoes [`RotaryHeads::restore`].
    pub(super) fn permute<T: Copy + Default>(&self, matrix: &mut [T]) {
        self.reorder(matrix, |row| row % 2 * self.half + row / 2);
    }

    /// Replaces each row of a head by the row of this number.
    fn reorder<T: Copy + Default>(&self, matrix: &mut [T], from: impl Fn(usize) -> usize) {
        let columns = matrix.len() / self.rows;
        let mut before = vec![T::default(); 2 * self.half * columns];
        for head in matrix.chunks_exact_mut(2 * self.half * columns) {
            before.copy_from_slice(head);
            for (row, values) in head.chunks_exact_mut(columns).enumerate() {
                let from = from(row);
                values.copy_from_slice(&before[from * columns..(from + 1) * columns]);
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
        RotaryHeads::new(8, 2).unwrap().permute(&mut matrix);
        assert_eq!(matrix, stored);
    }

    #[test]
    fn rows_that_make_no_heads_are_refused() {
        assert!(RotaryHeads::new(6, 2).is_none());
        assert!(RotaryHeads::new(6, 0).is_none());
    }
}
