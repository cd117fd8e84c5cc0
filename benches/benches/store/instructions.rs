//! How many instructions an operation has: a figure that no neighbour on the machine changes. Valgrind counts them, while this program runs under it once more for each
//! contender.

use std::env;
use std::process::{self, Command};

use crate::rounds::{Contender, Worker};

/// Operations that are counted.
const OPS: usize = 20_000;
/// Records, few enough to be filled in under valgrind.
pub(crate) const RECORDS: u32 = 20_000;
/// Operations in a sequence.
pub(crate) const SEQUENCE: usize = 1 << 16;
/// For the program that is counted: which group and contender.
const TASK: &str = "ZONE_BENCH_TASK";

/// Whether instructions are to be counted, and not time.
pub(crate) fn wanted() -> bool {
    env::var_os("ZONE_BENCH_INSTRUCTIONS").is_some()
}

/// Counts for each contender of a group; or is the program that is counted, and ends it.
pub(crate) fn group(name: &str, sequence: &[u32], contenders: &[&dyn Contender]) {
    let mut contenders = contenders.iter().filter(|contender| contender.warms_up());
    if let Ok(task) = env::var(TASK) {
        if let Some(contender) = contenders.find(|contender| task == task_of(name, contender.name())) {
            contender.prepare();
            counted(&mut contender.worker(0), &sequence[..OPS]);
            process::exit(0);
        }
        return;
    }
    println!("{name}, instructions per operation");
    for contender in contenders {
        println!("  {:<14} {:>8.0}", contender.name(), count(name, contender.name()) / OPS as f64);
    }
}

fn task_of(group: &str, contender: &str) -> String {
    format!("{group} {contender}")
}

/// What valgrind counts, and nothing else.
#[inline(never)]
fn counted(work: &mut Worker<'_>, ops: &[u32]) {
    assert_eq!(work(ops), OPS);
}

/// Instructions of all operations.
fn count(group: &str, contender: &str) -> f64 {
    let program = env::current_exe().expect("this program");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*::counted"]);
    valgrind.arg(program).args([group, "--bench"]).env(TASK, task_of(group, contender));
    let output = valgrind.output().expect("valgrind is there");
    let said = String::from_utf8_lossy(&output.stderr);
    // The last figure is the program's own; those before it are of what it ran.
    let figure = said.lines().filter_map(|line| line.split("Collected : ").nth(1)).next_back();
    figure.and_then(|figure| figure.trim().parse().ok()).unwrap_or_else(|| panic!("valgrind said: {said}"))
}
