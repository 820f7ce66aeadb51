//! Instructions of each operation, counted by callgrind.
//!
//! The program runs itself under `valgrind --tool=callgrind`, each case once with a count and once with twice the
//! count: the difference is the operation and the loop around it (two or three instructions), with set-up, page
//! tables and the C library left out. Prints a table and writes `target/instructions.json`.

use std::error::Error;
use std::process::{Command, ExitCode};

use ring_benches::cases::{Case, cases};
use ring_benches::target_folder;
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    case: &'static str,
    per: &'static str,
    instructions: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, count] = arguments.as_slice()
        && flag == "--run"
    {
        let case = cases().find(|c| c.name == name).ok_or("no such case")?;
        return (case.run)(count.parse()?);
    }
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        println!("skipped: valgrind does not start: {error}");
        return Ok(());
    }
    let only = arguments.first().map_or("", String::as_str);
    let mut rows = Vec::new();
    println!("{:<44} {:>8}  per", "operation", "instr.");
    for case in cases().filter(|c| c.name.contains(only)) {
        let once = count(&case, case.count)?;
        let twice = count(&case, case.count.saturating_mul(2))?;
        let instructions = twice.abs_diff(once) as f64 / f64::from(case.count);
        println!("{:<44} {instructions:>8.1}  {}", case.name, case.per);
        rows.push(Row { case: case.name, per: case.per, instructions });
    }
    let folder = target_folder();
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("instructions.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&rows)?)?;
    println!("written to {}", file.display());
    Ok(())
}

/// Instructions of one run of a case, its set-up included.
fn count(case: &Case, count: u32) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(case.within.map(|functions| format!("--toggle-collect={functions}")))
        .arg(std::env::current_exe()?)
        .args(["--run", case.name, &count.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let total = text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, n)| n.trim().parse());
    match total {
        Some(Ok(total)) if output.status.success() => Ok(total),
        _ => Err(format!("callgrind of `{}` failed ({}): {text}", case.name, output.status).into()),
    }
}
