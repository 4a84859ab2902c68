//! A few items of a stream whose length nobody knows: the first, and others at even distances.

/// Keeps between `wanted` and twice as many of what is offered, whatever its number.
#[derive(Debug)]
pub(crate) struct Spread<T> {
    wanted: usize,
    stride: u64,
    offered: u64,
    kept: Vec<T>,
}

impl<T> Spread<T> {
    /// Nothing so far; `wanted` must be at least 1.
    pub fn new(wanted: usize) -> Self {
        Self { wanted, stride: 1, offered: 0, kept: Vec::new() }
    }

    /// Offers the next item, which is only made if it is kept for now.
    pub fn offer(&mut self, make: impl FnOnce() -> T) {
        if self.offered.is_multiple_of(self.stride) {
            if self.kept.len() == 2 * self.wanted {
                let mut number = 0_usize;
                self.kept.retain(|_| {
                    number += 1;
                    !number.is_multiple_of(2)
                });
                self.stride *= 2;
            }
            // Of twice as many, an even number has been kept: the next one is in step with the doubled stride
            // too.
            self.kept.push(make());
        }
        self.offered += 1;
    }

    /// As many as wanted, in their order, or all where there were fewer.
    pub fn into_items(self) -> Vec<T> {
        let (wanted, held) = (self.wanted.min(self.kept.len()), self.kept.len());
        let mut chosen = (0..wanted).map(|number| number * held / wanted).peekable();
        let kept = self.kept.into_iter().enumerate();
        kept.filter_map(|(index, item)| chosen.next_if_eq(&index).map(|_| item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: u32, wanted: usize) -> Vec<u32> {
        let mut spread = Spread::new(wanted);
        (0..length).for_each(|number| spread.offer(|| number));
        spread.into_items()
    }

    #[test]
    fn the_first_and_others_at_even_distances() {
        assert_eq!(of(0, 3), [0; 0]);
        assert_eq!(of(2, 3), [0, 1]);
        assert_eq!(of(6, 3), [0, 2, 4]);
        assert_eq!(of(12, 3), [0, 4, 8]);
        assert_eq!(of(1000, 3), [0, 256, 512]);
        for length in 1..200 {
            let found = of(length, 4);
            assert_eq!((found[0], found.len()), (0, 4.min(length as usize)));
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        }
    }
}
