//! A drawing of the ratios: a row for each workload, a dot for each delay, the further right the faster tarn is than
//! the best peer. Pure.

use super::peer::Kind;
use super::results::Results;
use std::fmt::Write as _;

const LEFT: f64 = 330.0;
const WIDTH: f64 = 560.0;
const ROW: f64 = 20.0;
const TOP: f64 = 50.0;
/// The ratios at the two ends; what lies beyond is drawn at the end.
const ENDS: (f64, f64) = (1.0 / 16.0, 64.0);
const COLOURS: [&str; 4] = ["#1b6ca8", "#e08a1e", "#6a3d9a", "#3c8d40"];

/// The drawing.
pub fn svg(results: &Results) -> String {
    let (quantities, delays) = (results.quantities(), results.delays_ms());
    let height = TOP + ROW * quantities.len() as f64 + 10.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        LEFT + WIDTH + 30.0
    );
    for power in -4..=6 {
        let (ratio, bold) = (2_f64.powi(power), if power == 0 { 2 } else { 1 });
        let x = place(ratio);
        add(
            &mut text,
            &format!("<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{ratio}</text>", TOP - 12.0),
        );
        let line = format!("x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{height}\"", TOP - 6.0);
        add(&mut text, &format!("<line {line} stroke=\"#bbb\" stroke-width=\"{bold}\"/>"));
    }
    for (index, delay) in delays.iter().enumerate() {
        let (x, colour) = (LEFT + 110.0 * index as f64, COLOURS[index % COLOURS.len()]);
        add(&mut text, &format!("<circle cx=\"{x}\" cy=\"14\" r=\"5\" fill=\"{colour}\"/>"));
        add(&mut text, &format!("<text x=\"{}\" y=\"18\">first byte {delay} ms</text>", x + 9.0));
    }
    for (row, quantity) in quantities.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        let label = quantity.label();
        add(
            &mut text,
            &format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0, y + 4.0),
        );
        for (index, &delay_ms) in delays.iter().enumerate() {
            if let Some((ratio, _)) = results.ratio(delay_ms, *quantity, Kind::Tarn) {
                let (x, colour) = (place(ratio), COLOURS[index % COLOURS.len()]);
                add(&mut text, &format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"5\" fill=\"{colour}\"/>"));
            }
        }
    }
    text + "</svg>\n"
}

fn add(text: &mut String, element: &str) {
    writeln!(text, "{element}").expect("a string takes everything");
}

/// Where a ratio is, on a scale of powers of two.
fn place(ratio: f64) -> f64 {
    let (least, most) = (ENDS.0.log2(), ENDS.1.log2());
    let share = (ratio.log2().clamp(least, most) - least) / (most - least);
    (LEFT + share * WIDTH).round()
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{add, empty, sample};
    use super::*;

    #[test]
    fn a_ratio_is_a_dot() {
        let mut results = empty();
        add(&mut results, Kind::Tarn, &[sample(1.0)]);
        add(&mut results, Kind::S3fs, &[sample(4.0)]);
        let dot = format!("<circle cx=\"{}\" cy=\"60\"", place(4.0));
        assert!(svg(&results).contains(&dot), "{}", svg(&results));
    }

    #[test]
    fn the_scale_has_ends() {
        assert_eq!(place(1000.0), LEFT + WIDTH);
        assert_eq!(place(0.0), LEFT);
        assert!(place(0.5) < place(1.0) && place(1.0) < place(2.0));
    }
}
