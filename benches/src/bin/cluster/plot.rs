//! Plots of a report, as SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figures::{Figures, shown};
use crate::report::Report;

const WIDTH: f64 = 640.0;
const BAR: f64 = 16.0;
const LABELS: f64 = 250.0;
const OURS: &str = "#0072b2";
const PEER: &str = "#e69f00";

/// One file for each scenario: `SCENARIO.svg` in `folder`.
pub(crate) fn write(folder: &Path, report: &Report) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for result in &report.results {
        let file = folder.join(format!("{}.svg", result.scenario));
        let svg = bars(&result.ours, result.peer.as_ref());
        fs::write(&file, svg).with_context(|| format!("cannot write the plot {}", file.display()))?;
    }
    Ok(())
}

/// A pair of bars for each figure, relative to the longer of the two: what differs is seen, whatever its unit.
fn bars(ours: &Figures, peer: Option<&Figures>) -> String {
    let rows = ours.iter().count() as f64;
    let height = rows * 3.0 * BAR + 2.0 * BAR;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (row, (name, figure)) in ours.iter().enumerate() {
        let top = BAR + row as f64 * 3.0 * BAR;
        let theirs = peer.and_then(|peer| peer.get(name));
        let longest = figure.abs().max(theirs.unwrap_or_default().abs());
        let _ = writeln!(svg, "<text x=\"8\" y=\"{:.0}\">{name}</text>", top + BAR);
        let bars = [(Some(figure), OURS, "sync-node"), (theirs, PEER, "peer")];
        for (line, (figure, colour, who)) in bars.into_iter().enumerate() {
            let Some(figure) = figure else { continue };
            let y = top + line as f64 * BAR;
            let length = if longest > 0.0 { figure.abs() / longest * (WIDTH - LABELS - 130.0) } else { 0.0 };
            let _ = writeln!(
                svg,
                "<rect x=\"{LABELS}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.0}\">{} {who}</text>",
                BAR - 2.0,
                LABELS + length + 4.0,
                y + BAR - 4.0,
                shown(figure)
            );
        }
    }
    svg + "</svg>\n"
}
