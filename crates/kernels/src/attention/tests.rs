//! Attention against its definition in f64, and against itself.

use super::*;
use crate::check::{Difference, values};

/// The definition, in f64: the output of every token and query head, [tokens, query heads × dim].
fn reference(segments: &[Segment], attention: Attention, qkv: &[f64]) -> Vec<f64> {
    let heads = attention.heads;
    let (row, dim) = (heads.row(), heads.dim);
    let mut out = vec![0.0; qkv.len() / row * heads.query_row()];
    for segment in segments {
        for t in segment.tokens() {
            let mut seen: Vec<usize> = (segment.start..=t).rev().collect();
            let mut parent = segment.parent;
            while let Some(p) = parent {
                seen.extend(segments[p].tokens().rev());
                parent = segments[p].parent;
            }
            seen.truncate(attention.window.unwrap_or(usize::MAX));
            for h in 0..heads.query {
                let q = &qkv[t * row + h * dim..][..dim];
                let key = heads.key_column(h / heads.group());
                let value = heads.value_column(h / heads.group());
                let weights: Vec<f64> = seen
                    .iter()
                    .map(|j| {
                        let k = &qkv[j * row + key..][..dim];
                        let product = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                        let score = product * f64::from(attention.scale);
                        let cap = attention.softcap.map(f64::from);
                        cap.map_or(score, |cap| cap * (score / cap).tanh()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for (w, j) in weights.iter().zip(&seen) {
                    for d in 0..dim {
                        out[t * heads.query_row() + h * dim + d] += w / total * qkv[j * row + value + d];
                    }
                }
            }
        }
    }
    out
}

fn segments(parts: &[(usize, Option<usize>)]) -> Vec<Segment> {
    let mut all: Vec<Segment> = Vec::new();
    for &(len, parent) in parts {
        let start = all.last().map_or(0, |s| s.start + s.len);
        let position = parent.map_or(0, |p| all[p].position + all[p].len);
        all.push(Segment { start, len, parent, position });
    }
    all
}

/// Every kind of attention: plain, with scores of another scale, capped scores, and windows shorter and longer than
/// what there is to see.
fn kinds(heads: Heads) -> [Attention; 6] {
    let plain = Attention::new(heads);
    let window = |window| Attention { window: Some(window), ..plain };
    let capped = Attention { scale: 0.7, softcap: Some(1.5), ..plain };
    [
        plain,
        Attention { scale: 0.3, ..plain },
        capped,
        window(4),
        Attention { window: Some(1), ..capped },
        window(300),
    ]
}

fn run(segments: &[Segment], attention: Attention, qkv: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let heads = attention.heads;
    let tokens = qkv.len() / heads.row();
    let (mut out, mut sums) = (vec![0.0; tokens * heads.query_row()], vec![0.0; tokens * heads.query]);
    forward(&Plan::new(segments, heads.key_value), attention, qkv, &mut out, &mut sums);
    (out, sums)
}

#[test]
fn trees_equal_the_definition_and_gradients_finite_differences() {
    let shapes = [
        (
            segments(&[(5, None), (3, Some(0)), (4, Some(0)), (2, Some(2)), (6, None)]),
            Heads { query: 4, key_value: 2, dim: 6 },
        ),
        (segments(&[(3, None)]), Heads { query: 3, key_value: 1, dim: 16 }),
        (segments(&[(1, None), (1, Some(0)), (1, None)]), Heads { query: 1, key_value: 1, dim: 3 }),
    ];
    for (segments, heads) in shapes {
        for attention in kinds(heads) {
            assert_equal_the_definition(&segments, attention);
        }
    }
}

fn assert_equal_the_definition(segments: &[Segment], attention: Attention) {
    let heads = attention.heads;
    let tokens = segments.last().map_or(0, |s| s.start + s.len);
    let qkv: Vec<f32> = values(tokens * heads.row(), 1).iter().map(|x| x * 2.0).collect();
    let d_out = values(tokens * heads.query_row(), 2);
    let qkv64: Vec<f64> = qkv.iter().map(|&x| x.into()).collect();
    let (out, log_sums) = run(segments, attention, &qkv);
    for (got, expected) in out.iter().zip(reference(segments, attention, &qkv64)) {
        assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} instead of {expected}, {attention:?}");
    }
    let loss = |qkv: &[f64]| -> f64 {
        reference(segments, attention, qkv).iter().zip(&d_out).map(|(o, &d)| o * f64::from(d)).sum()
    };
    let mut d_qkv = vec![7.0; qkv.len()];
    let saved = Saved { qkv: &qkv, out: &out, log_sums: &log_sums, d_out: &d_out };
    backward(&Plan::new(segments, heads.key_value), attention, saved, &mut d_qkv);
    Difference::of(loss, &qkv64).assert_close(&d_qkv, 2e-5);
}

/// Plain attention; windows that end within a prefix, within a branch, and span all; capped scores.
fn longer_kinds(heads: Heads) -> [Attention; 5] {
    let plain = Attention::new(heads);
    let window = |window| Attention { window: Some(window), ..plain };
    [plain, window(17), window(100), window(1000), Attention { softcap: Some(0.5), ..window(81) }]
}

#[test]
fn sharing_a_prefix_changes_no_bit_of_the_output() {
    let heads = Heads { query: 6, key_value: 2, dim: 32 };
    let (prompt, first, second) = (150, 70, 90);
    let rows = values((prompt + first + second) * heads.row(), 3);
    let shared = segments(&[(prompt, None), (first, Some(0)), (second, Some(0))]);
    let flat = segments(&[(prompt + second, None)]);
    let (width, branch) = (heads.row(), (prompt + first) * heads.row());
    let second_rows: Vec<f32> = [&rows[..prompt * width], &rows[branch..]].concat();
    let width = heads.query_row();
    for attention in longer_kinds(heads) {
        let (tree, alone) = (run(&shared, attention, &rows).0, run(&flat, attention, &second_rows).0);
        assert_eq!(tree[(prompt + first) * width..], alone[prompt * width..], "{attention:?}");
        assert_eq!(tree[..prompt * width], alone[..prompt * width], "{attention:?}");
    }
}

#[test]
fn a_window_over_everything_changes_no_bit() {
    let heads = Heads { query: 2, key_value: 1, dim: 16 };
    let (rows, plain) = (values(150 * heads.row(), 6), Attention::new(heads));
    let all = segments(&[(100, None), (50, Some(0))]);
    assert_eq!(run(&all, Attention { window: Some(150), ..plain }, &rows), run(&all, plain, &rows));
}

/// Pages of one sequence, some of which others may have too.
#[derive(Default)]
struct Pages(Vec<std::sync::Arc<Page>>);

impl Paged for Pages {
    fn page(&self, index: usize) -> Option<&Page> {
        self.0.get(index).map(AsRef::as_ref)
    }
}

/// Pages of so many tokens each, with the keys and values of rows; layer 1 of 2.
fn pages(heads: Heads, lengths: &[usize], rows: &[f32]) -> Pages {
    let mut row = 0;
    let page = |&len: &usize| {
        let mut page = Page::new(heads, 2);
        assert_eq!(page.extend(len), len);
        // In two goes, as a prompt and what follows it.
        for tokens in [0..len / 2, len / 2..len] {
            let rows = &rows[(row + tokens.start) * heads.row()..(row + tokens.end) * heads.row()];
            page.write(heads, 1, tokens.start, rows);
        }
        row += len;
        std::sync::Arc::new(page)
    };
    Pages(lengths.iter().map(page).collect())
}

#[test]
fn pages_give_the_bits_of_a_whole_pass() {
    let heads = Heads { query: 6, key_value: 2, dim: 32 };
    let tokens = 150;
    let rows = values(tokens * heads.row(), 4);
    let width = heads.query_row();
    let lengths = [&[64, 64, 22][..], &[64, 5, 64, 17], &[1, 1, 64, 64, 20]];
    for (attention, lengths) in longer_kinds(heads).into_iter().flat_map(|kind| lengths.map(|l| (kind, l))) {
        let (whole, _) = run(&segments(&[(tokens, None)]), attention, &rows);
        let sequences = [pages(heads, lengths, &rows)];
        for (position, count) in [(0, tokens), (149, 1), (60, 3), (63, 87)] {
            let piece = Piece { sequence: 0, row: 0, tokens: count, position };
            let mut out = vec![f32::NAN; count * width];
            let queries = &rows[position * heads.row()..(position + count) * heads.row()];
            // A long sequence may hold more than the rows see.
            attend_pages(&Blocks::new(heads, &[piece]), (attention, 1), &sequences, queries, &mut out);
            assert_eq!(out, whole[position * width..(position + count) * width], "{lengths:?} {position}");
        }
    }
}

#[test]
fn sequences_that_share_pages_are_as_if_alone() {
    let heads = Heads { query: 4, key_value: 2, dim: 16 };
    let rows = values(400 * heads.row(), 5);
    let row = |t: usize| &rows[t * heads.row()..(t + 1) * heads.row()];
    let shared = pages(heads, &[64, 40], &rows);
    let mut sequences = Vec::new();
    for i in 0..9 {
        let own = pages(heads, &[i + 1], &rows[(150 + 10 * i) * heads.row()..]);
        let prefix = if i % 4 == 3 { &shared.0[..1] } else { &shared.0[..] };
        sequences.push(Pages([prefix, &own.0].concat()));
    }
    let position = |i: usize| if i % 4 == 3 { 64 + i } else { 104 + i };
    let piece = |i: usize| Piece { sequence: i, row: i, tokens: 1, position: position(i) };
    let queries: Vec<f32> = (0..9).flat_map(|i| row(300 + i).to_vec()).collect();
    for attention in longer_kinds(heads) {
        let attend = |pieces: &[Piece]| {
            let mut out = vec![0.0; 9 * heads.query_row()];
            attend_pages(&Blocks::new(heads, pieces), (attention, 1), &sequences, &queries, &mut out);
            out
        };
        let together = attend(&(0..9).map(piece).collect::<Vec<_>>());
        for i in 0..9 {
            let columns = i * heads.query_row()..(i + 1) * heads.query_row();
            assert_eq!(
                attend(&[piece(i)])[columns.clone()],
                together[columns],
                "sequence {i}, {attention:?}"
            );
        }
    }
}
