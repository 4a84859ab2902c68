//! The Mersenne Twister against values recorded from CPython 3.11 (`fixtures/record_random.py`).

use collimate_run::Error;
use collimate_run::random::MersenneTwister;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    seed: String,
    random: Vec<u64>,
    bits: Vec<(u32, String)>,
    below: Vec<(String, String)>,
    shuffled: Vec<u32>,
    samples: Vec<(usize, usize, Vec<usize>)>,
    choices: Vec<char>,
    after_many: Vec<u64>,
}

fn numerator(value: f64) -> u64 {
    (value * (1_u64 << 53) as f64) as u64
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

#[test]
fn draws_what_cpython_draws() {
    let recorded: Vec<Recorded> = serde_json::from_str(include_str!("fixtures/random.json")).unwrap();
    assert_eq!(recorded.len(), 12);
    for row in recorded {
        let seed = &row.seed;
        let mut source = MersenneTwister::new(number(seed));
        for expected in row.random {
            assert_eq!(numerator(source.random()), expected, "random(), seed {seed}");
        }
        for (bits, expected) in row.bits {
            assert_eq!(source.getrandbits(bits), number(&expected), "getrandbits({bits}), seed {seed}");
        }
        for (n, expected) in row.below {
            assert_eq!(source.randbelow(number(&n)), number(&expected), "randbelow({n}), seed {seed}");
        }
        let mut items: Vec<u32> = (0..50).collect();
        source.shuffle(&mut items);
        assert_eq!(items, row.shuffled, "shuffle, seed {seed}");
        for (n, k, expected) in row.samples {
            assert_eq!(source.sample(n, k).unwrap(), expected, "sample({n}, {k}), seed {seed}");
        }
        let letters = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
        for expected in row.choices {
            assert_eq!(source.choice(&letters), Some(&expected), "choice, seed {seed}");
        }
        let many: Vec<u64> = (0..700).map(|_| numerator(source.random())).collect();
        assert_eq!(many[697..], row.after_many, "after 700 draws, seed {seed}");
    }
}

#[test]
fn edges_draw_nothing() {
    let mut source = MersenneTwister::new(42);
    let untouched = source.clone().random();
    assert_eq!(source.choice::<u8>(&[]), None);
    assert_eq!(source.randbelow(0), 0);
    assert_eq!(source.getrandbits(0), 0);
    assert!(matches!(source.sample(3, 4), Err(Error::SampleTooLarge { wanted: 4, available: 3 })));
    assert_eq!(source.random(), untouched);
}
