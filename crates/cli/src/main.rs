//! The binary `collimate`.
fn main() {}
