//! Changes of inputs: bits, bytes, cuts, repetitions, and pieces of other inputs.

use tarn_tests::data;

/// Longest input, in bytes.
const LONGEST: usize = 16 << 10;
/// Bytes at which parsers turn.
const SPECIAL: &[u8] = b"\0\x01\x7f\x80\xff \n\r\"'&<>/=,.:;%{}[]-+0 9aZ";

/// Makes inputs out of a corpus, the same for the same seed.
pub(crate) struct Mutator<'a> {
    numbers: Box<dyn Iterator<Item = u64>>,
    corpus: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seed: u64, corpus: &'a [Vec<u8>]) -> Self {
        Self { numbers: Box::new(data::numbers(seed, u64::MAX)), corpus }
    }

    /// The next input: one of the corpus, changed in one to six places.
    pub(crate) fn input(&mut self) -> Vec<u8> {
        let mut input = self.pick().to_vec();
        for _ in 0..=self.below(6) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn below(&mut self, bound: usize) -> usize {
        let number = self.numbers.next().unwrap_or_default();
        usize::try_from(number % bound.max(1) as u64).unwrap_or_default()
    }

    fn pick(&mut self) -> &'a [u8] {
        &self.corpus[self.below(self.corpus.len())]
    }

    /// A piece of some bytes, more often a short one.
    fn piece<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let start = self.below(bytes.len());
        let longest = if self.below(4) == 0 { bytes.len() } else { 16 };
        let length = self.below(longest.min(bytes.len() - start) + 1);
        &bytes[start..start + length]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let kind = if input.is_empty() { 0 } else { self.below(7) };
        match kind {
            0 => {
                let other = self.pick();
                let piece = self.piece(other).to_vec();
                input.splice(at..at, piece);
            }
            1 => input[at] ^= 1 << self.below(8),
            2 => input[at] = SPECIAL[self.below(SPECIAL.len())],
            3 => input.truncate(at),
            4 => {
                let length = self.below(16).min(input.len() - at);
                input.drain(at..at + length);
            }
            5 => {
                let piece = self.piece(&input.clone()).to_vec();
                let times = 1 + self.below(4);
                input.splice(at..at, piece.repeat(times));
            }
            _ => {
                let special = SPECIAL[self.below(SPECIAL.len())];
                input.insert(at, special);
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_inputs_and_all_kinds_of_them() {
    let corpus = [b"first input".to_vec(), b"second".to_vec()];
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed, &corpus);
        (0..1000).map(|_| mutator.input()).collect::<Vec<_>>()
    };
    assert_eq!(inputs(7), inputs(7));
    let inputs = inputs(7);
    assert!(inputs.iter().any(|input| input.len() < 6) && inputs.iter().any(|input| input.len() > 20));
    assert!(
        inputs
            .iter()
            .any(|input| input.windows(9).any(|window| window == b"firstseco" || window == b"secondfir")
                || input.starts_with(b"first") && input.windows(3).any(|window| window == b"con"))
    );
}
