//! Bars with whiskers, as SVG: one panel for each case of a measure. Starts at nought, or has a scale of
//! powers of ten and says so: never anything between.

use std::fmt::Write;

use crate::compare::results::{BASE, Better, Comparison, Row};
use crate::report::number;

const WIDTH: f64 = 720.0;
const LABELS_WIDTH: f64 = 150.0;
const VALUES_WIDTH: f64 = 90.0;
const BAR_HEIGHT: f64 = 14.0;
const BAR_STEP: f64 = 20.0;
const TITLE_HEIGHT: f64 = 26.0;
const PANEL_GAP: f64 = 16.0;
/// With more than this between the greatest and the least, a bar from nought would hide the least.
const LINEAR_RATIO_MAX: f64 = 30.0;
const OURS: &str = "#1769aa";
const THEIRS: &str = "#9aa5b1";

/// From a value to a part of the width, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// From nought to this.
    Linear { max: f64 },
    /// From one power of ten to another, as exponents.
    Powers { from: i32, to: i32 },
}

impl Scale {
    /// That shows all of these.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let max = values.clone().fold(0.0, f64::max);
        let least = values.clone().fold(f64::INFINITY, f64::min);
        match least > 0.0 && max / least > LINEAR_RATIO_MAX {
            true => Self::Powers {
                from: least.log10().floor() as i32,
                to: (max.log10().ceil() as i32).max(least.log10().floor() as i32 + 1),
            },
            false => Self::Linear { max: if max > 0.0 { max } else { 1.0 } },
        }
    }

    fn part(self, value: f64) -> f64 {
        let part = match self {
            Self::Linear { max } => value / max,
            Self::Powers { .. } if value <= 0.0 => 0.0,
            Self::Powers { from, to } => (value.log10() - f64::from(from)) / f64::from(to - from),
        };
        part.clamp(0.0, 1.0)
    }

    /// Where there is a line, and what stands at it.
    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { max } => vec![0.0, max / 2.0, max],
            Self::Powers { from, to } => (from..=to).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

/// The plot of a workload; `None` if nothing of it is plotted.
pub(crate) fn svg(comparison: &Comparison) -> Option<String> {
    let rows: Vec<&Row> = comparison.rows.iter().filter(|row| row.is_plotted).collect();
    if rows.is_empty() {
        return None;
    }
    let mut body = String::new();
    let mut top = PANEL_GAP;
    for row in rows {
        top = panel(&mut body, row, top) + PANEL_GAP;
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    ))
}

/// Draws one row below `top`; where it ends.
fn panel(out: &mut String, row: &Row, top: f64) -> f64 {
    let scale = Scale::of(row.values.iter().map(|value| value.spread.max));
    let room = WIDTH - LABELS_WIDTH - VALUES_WIDTH;
    let at = |value: f64| LABELS_WIDTH + room * scale.part(value);
    let bars_top = top + TITLE_HEIGHT;
    let bottom = bars_top + BAR_STEP * row.values.len() as f64;
    let better = match row.better {
        Better::More => ", more is better",
        Better::Less => ", less is better",
        Better::Neither => "",
    };
    let powers =
        if matches!(scale, Scale::Powers { .. }) { ", scale of powers of ten" } else { "" };
    let title = format!("{}: {}, {}{better}{powers}", row.case, row.measure, row.unit);
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        top + 12.0,
        escape(&title)
    );
    for tick in scale.ticks() {
        let x = at(tick);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#dde2e7\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" \
             fill=\"#667\">{}</text>",
            bars_top - 4.0,
            bottom + 10.0,
            number(tick),
        );
    }
    for (value, index) in row.values.iter().zip(0_u32..) {
        let y = bars_top + BAR_STEP * f64::from(index);
        let middle = y + BAR_HEIGHT / 2.0;
        let (end, min, max) = (at(value.spread.median), at(value.spread.min), at(value.spread.max));
        let fill = if value.label.starts_with(BASE) { OURS } else { THEIRS };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS_WIDTH}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" \
             fill=\"{fill}\"/>\
             <line x1=\"{min:.1}\" x2=\"{max:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" \
             stroke=\"#222\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LABELS_WIDTH - 6.0,
            y + 11.0,
            escape(&value.label),
            end - LABELS_WIDTH,
            max.max(end) + 6.0,
            y + 11.0,
            number(value.spread.median),
        );
    }
    bottom + 12.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::{Board, Measure};

    #[test]
    fn a_linear_scale_starts_at_nought() {
        let scale = Scale::of([10.0, 40.0].into_iter());
        assert_eq!(scale, Scale::Linear { max: 40.0 });
        assert_eq!((scale.part(0.0), scale.part(10.0), scale.part(40.0)), (0.0, 0.25, 1.0));
    }

    #[test]
    fn far_apart_values_get_powers_of_ten() {
        let scale = Scale::of([0.5, 2_000.0].into_iter());
        assert_eq!(scale, Scale::Powers { from: -1, to: 4 });
        assert_eq!((scale.part(0.1), scale.part(10_000.0), scale.part(0.0)), (0.0, 1.0, 0.0));
        assert!((scale.part(10.0) - 0.4).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 6);
    }

    #[test]
    fn nothing_but_noughts_is_still_drawn() {
        assert_eq!(Scale::of([0.0, 0.0].into_iter()), Scale::Linear { max: 1.0 });
    }

    #[test]
    fn each_value_has_a_bar_and_its_label_cannot_end_the_picture() {
        let mut board = Board::default();
        for label in [BASE, "a<b"] {
            board.add("c", Measure::more("rate", "1/s").plotted(), label, 3.0);
        }
        let mut out = String::new();
        let rows = board.rows(|_, _, _| (None, None));
        panel(&mut out, &rows[0], 0.0);
        assert_eq!(out.matches("<rect").count(), 2);
        assert!(out.contains("a&lt;b") && !out.contains("a<b"));
    }
}
