//! Makes the page of the ring lab again: `page report.json report.html`.

use std::error::Error;
use std::fs;

use ring_benches::lab::page::page;
use ring_benches::lab::report::Report;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(from), Some(to), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: page REPORT.json PAGE.html".into());
    };
    let report: Report = serde_json::from_slice(&fs::read(&from)?).map_err(|error| format!("{from}: {error}"))?;
    fs::write(to, page(&report))?;
    Ok(())
}
