//! Measures how much a cluster admits over a limit, case by case, and compares it with other ways to count.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};
use tests::over_admission::{Measured, Rule, Tally, documented, grid, measure, model, svg};

/// How much a cluster admits over a limit: real zones and replication, simulated clock and network. Prints the tables of docs/semantics.md; the
/// exit status is 1 if a case goes beyond the formula there, or refuses for requests that did not happen. All cases take five minutes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Few nodes and moderate rates only.
    #[arg(long)]
    quick: bool,
    /// The cases of the document's table only.
    #[arg(long, conflicts_with = "quick")]
    documented: bool,
    /// Write every case to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the plot to this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

const HEAD: &str =
    "| nodes | rate | burst | delay | offered | one bucket admits | the cluster | more | most above r·t + b + 1 | the formula allows | refused early |
|---|---|---|---|---|---|---|---|---|---|---|";

fn tally(tally: &Tally) -> Value {
    json!({
        "admitted": tally.admitted, "over": tally.over,
        "refused_early": tally.refused_early, "refused_wrongly": tally.refused_wrongly,
    })
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let cases = if arguments.documented { documented() } else { grid(arguments.quick) };
    let mut rules = [(0.0, 0.0, 0, 0); Rule::ALL.len()];
    let (mut all, mut values): (Vec<Measured>, Vec<Value>) = (Vec::new(), Vec::new());
    let (mut ideal, mut cluster) = (0.0, (0.0, 0.0, 0, 0));
    let add = |sum: &mut (f64, f64, u64, u64), one: &Tally, ideal: f64| {
        sum.0 += (one.admitted - ideal).abs();
        sum.1 = one.over.max(sum.1);
        sum.2 += one.refused_early;
        sum.3 += one.refused_wrongly;
    };
    let named = documented().len();
    println!("{HEAD}");
    for (index, case) in cases.iter().enumerate() {
        let measured = measure(case).map_err(|error| format!("{}: {error}", case.columns()))?;
        ideal += measured.ideal.admitted;
        add(&mut cluster, &measured.cluster, measured.ideal.admitted);
        let mut models = serde_json::Map::new();
        for (sum, rule) in rules.iter_mut().zip(Rule::ALL) {
            let one = model(case, rule)?;
            add(sum, &one, measured.ideal.admitted);
            models.insert(rule.name().to_owned(), tally(&one));
        }
        values.push(json!({
            "case": case.columns(), "ideal": measured.ideal.admitted, "bound": measured.bound,
            "cluster": tally(&measured.cluster), "models": models,
        }));
        if index < named {
            println!("{}", measured.row());
        }
        all.push(measured);
        if std::io::stderr().is_terminal() {
            eprint!("\r{} of {} cases ", index + 1, cases.len());
            let _ = std::io::stderr().flush();
        }
    }
    println!(
        "\n| rule | error | most above r·t + b + 1 | refused early | of these wrongly |\n|---|---|---|---|---|"
    );
    let named = std::iter::once(("zone-sync", cluster));
    for (name, sum) in named.chain(Rule::ALL.map(Rule::name).into_iter().zip(rules)) {
        let error = 100.0 * sum.0 / ideal;
        println!("| {name} | {error:.2} % | {:.0} | {} | {} |", sum.1, sum.2, sum.3);
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&values).map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, svg(&all)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let beyond: Vec<_> = all.iter().filter(|m| m.cluster.over > m.bound + 1e-6).collect();
    beyond.iter().for_each(|measured| println!("beyond the formula: {}", measured.row()));
    let wrong = cluster.3;
    let nearest = all.iter().filter(|m| m.bound > 0.0).map(|m| m.cluster.over / m.bound).fold(0.0, f64::max);
    println!(
        "{} cases, {} beyond the formula, {wrong} requests refused wrongly; measured / formula is at most {nearest:.2}",
        all.len(),
        beyond.len()
    );
    Ok(beyond.is_empty() && wrong == 0)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("over-admission: {error}");
            ExitCode::FAILURE
        }
    }
}
