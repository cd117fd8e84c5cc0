//! Measured figures by name.

use serde_json::{Map, Number, Value};

/// Figures in the order in which they are shown. The same names on both sides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<(String, f64)>);

impl Figures {
    pub(crate) fn add(&mut self, name: impl Into<String>, figure: f64) {
        self.0.push((name.into(), figure));
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, figure)| *figure)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, figure)| (name.as_str(), *figure))
    }

    /// Adds the quantiles of latencies that an operator looks at.
    pub(crate) fn add_latencies(&mut self, mut micros: Vec<f64>, suffix: &str) {
        micros.sort_by(f64::total_cmp);
        self.add(format!("p50_us{suffix}"), quantile(&micros, 0.5));
        self.add(format!("p99_us{suffix}"), quantile(&micros, 0.99));
    }

    /// The median over runs, figure by figure.
    pub(crate) fn medians(runs: &[Self]) -> Self {
        let names = runs.first().into_iter().flat_map(Self::iter);
        let median = |name: &str| {
            let mut figures: Vec<f64> = runs.iter().filter_map(|run| run.get(name)).collect();
            figures.sort_by(f64::total_cmp);
            (name.to_owned(), quantile(&figures, 0.5))
        };
        Self(names.map(|(name, _)| median(name)).collect())
    }

    /// These figures over those of `peer`, where both have one.
    pub(crate) fn over(&self, peer: &Self) -> Self {
        let ratio = |(name, figure): (&str, f64)| {
            let other = peer.get(name).filter(|other| *other != 0.0)?;
            Some((name.to_owned(), figure / other))
        };
        Self(self.iter().filter_map(ratio).collect())
    }

    pub(crate) fn to_json(&self) -> Value {
        let number = |figure| Number::from_f64(figure).map_or(Value::Null, Value::Number);
        let figures: Map<_, _> =
            self.iter().map(|(name, figure)| (name.to_owned(), number(figure))).collect();
        Value::Object(figures)
    }
}

/// The `q`-quantile of sorted figures, the nearest one; 0 of none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * q).round() as usize).copied().unwrap_or_default()
}

/// A figure as people read it: three digits that count.
pub(crate) fn shown(figure: f64) -> String {
    match figure.abs() {
        size if size >= 10_000_000.0 => format!("{:.1} M", figure / 1e6),
        size if size >= 1_000_000.0 => format!("{:.2} M", figure / 1e6),
        size if size >= 10_000.0 => format!("{:.0} k", figure / 1e3),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 || figure == 0.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_nearest_figure() {
        let figures: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| quantile(&figures, q)), [0.0, 50.0, 99.0, 100.0]);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn ratios_are_ours_over_the_peers_and_only_of_what_both_have() {
        let (mut ours, mut peer) = (Figures::default(), Figures::default());
        ours.add("p50_us", 50.0);
        ours.add("only", 1.0);
        peer.add("p50_us", 100.0);
        let ratio = ours.over(&peer);
        assert_eq!(ratio.iter().collect::<Vec<_>>(), [("p50_us", 0.5)]);
        peer.add("only", 0.0);
        assert!(ours.over(&peer).get("only").is_none(), "nothing is any number of times nothing");
    }

    #[test]
    fn a_median_is_of_each_figure_by_itself() {
        let run = |a: f64, b: f64| {
            let mut figures = Figures::default();
            figures.add("a", a);
            figures.add("b", b);
            figures
        };
        let medians = Figures::medians(&[run(1.0, 9.0), run(3.0, 8.0), run(2.0, 7.0)]);
        assert_eq!(medians.iter().collect::<Vec<_>>(), [("a", 2.0), ("b", 8.0)]);
    }
}
