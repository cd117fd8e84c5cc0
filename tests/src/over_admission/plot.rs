//! The plot of the document: what was measured against what the formula allows, both axes logarithmic.

use std::fmt::Write;

use super::Measured;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 60.0;
/// Both axes go from 1 to this power of ten.
const DECADES: i32 = 5;

fn x(requests: f64) -> f64 {
    MARGIN + (WIDTH - 2.0 * MARGIN) * requests.max(1.0).log10() / f64::from(DECADES)
}

fn y(requests: f64) -> f64 {
    HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * requests.max(1.0).log10() / f64::from(DECADES)
}

/// One point a case; the colour tells the number of nodes.
pub fn svg(measured: &[Measured]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let (low, high) = (1.0, 10f64.powi(DECADES));
    for decade in 0..=DECADES {
        let requests = 10f64.powi(decade);
        let (at_x, at_y) = (x(requests), y(requests));
        let _ = writeln!(
            svg,
            "<path d=\"M{at_x:.1} {:.1}V{:.1}M{:.1} {at_y:.1}H{:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{at_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{requests}</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{requests}</text>",
            y(low),
            y(high),
            x(low),
            x(high),
            y(low) + 18.0,
            x(low) - 6.0,
            at_y + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"black\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">what the formula allows above r·t + b + 1, requests</text>\n\
         <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">measured, requests (less than 1: at 1)</text>",
        x(low),
        y(low),
        x(high),
        y(high),
        WIDTH / 2.0,
        HEIGHT - 16.0,
        HEIGHT / 2.0
    );
    for (index, (nodes, colour)) in COLOURS.iter().enumerate() {
        let at = MARGIN + 16.0 * index as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"80\" cy=\"{at:.1}\" r=\"4\" fill=\"{colour}\"/>\n\
             <text x=\"90\" y=\"{:.1}\">{nodes} nodes</text>",
            at + 4.0
        );
    }
    for one in measured {
        let colour = COLOURS.iter().find(|(nodes, _)| *nodes == one.case.nodes).map_or("gray", |c| c.1);
        let (x, y) = (x(one.bound), y(one.cluster.over));
        let _ =
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\" opacity=\"0.6\"/>");
    }
    svg + "</svg>\n"
}

const COLOURS: [(usize, &str); 5] =
    [(2, "#0072b2"), (4, "#009e73"), (8, "#e69f00"), (16, "#d55e00"), (32, "#cc79a7")];
